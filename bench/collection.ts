import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { readdir, readFile } from "node:fs/promises";
import { basename, join, resolve } from "node:path";
import { StartupError } from "../src/util/startup-error.ts";

/** A document or a query. */
export interface CollectionLine {
  readonly scope: string;
  readonly id: string;
  readonly text: string;
}

export interface CollectionQuery extends CollectionLine {
  /** Ids of the right documents, all of equal grade. */
  readonly relevant: readonly string[];
  /** Kind of question, if the collection has kinds. */
  readonly category: string | undefined;
}

/** Documents and queries with their expected answers. Each scope is searched separately. */
export interface Collection {
  /** Name of its directory. */
  readonly name: string;
  readonly documents: readonly CollectionLine[];
  readonly queries: readonly CollectionQuery[];
  /** SHA-256 of the two files, in hex. */
  readonly sha256: { readonly documents: string; readonly queries: string };
}

/**
 * Reads the collection in a directory, or in each of its subdirectories: `documents.jsonl` with `scope`, `id` and
 * `text`, and `queries.jsonl`, which adds `relevant` and optionally `category`.
 *
 * @throws StartupError if there is no collection, or a line does not have that form.
 */
export async function readCollections(directory: string): Promise<Collection[]> {
  const candidates = existsSync(join(directory, DOCUMENTS)) ? [directory] : await directoriesIn(directory);
  const found = candidates.filter((path) => existsSync(join(path, DOCUMENTS)));
  if (found.length === 0) throw new StartupError(`${directory} holds no collection: no ${DOCUMENTS} in it`);
  return await Promise.all(found.map(readCollection));
}

/** Returns the domain of a scope: `cranfield` and `0` become `cranfield-0`, and invalid characters `-`. */
export function domainName(collection: string, scope: string): string {
  const full = `${collection}-${scope}`;
  const plain = full.toLowerCase().replace(/[^a-z0-9_-]/g, "-");
  const name = /^[a-z]/.test(plain) ? plain : `c${plain}`;
  if (name === full && name.length <= 40) return name;
  // Two scopes that differ only in replaced characters must not share a domain.
  return `${name.slice(0, 31)}-${createHash("sha256").update(full).digest("hex").slice(0, 8)}`;
}

/** Replaces characters that an id must not contain with `_`. */
export function memoryId(id: string): string {
  const plain = id.replace(/[^A-Za-z0-9._:-]/g, "_");
  return plain.length <= 50 ? plain : createHash("sha256").update(id).digest("hex").slice(0, 50);
}

const DOCUMENTS = "documents.jsonl";
const QUERIES = "queries.jsonl";

async function directoriesIn(directory: string): Promise<string[]> {
  const entries = await readdir(directory, { withFileTypes: true }).catch((error: unknown) => {
    throw new StartupError(`the directory ${directory} cannot be read`, { cause: error });
  });
  return entries
    .filter((entry) => entry.isDirectory())
    .map((entry) => join(directory, entry.name))
    .sort();
}

async function readCollection(directory: string): Promise<Collection> {
  const documents = await readLines(join(directory, DOCUMENTS));
  const queries = await readLines(join(directory, QUERIES));
  return {
    name: basename(resolve(directory)),
    documents: documents.lines.map(lineFrom),
    queries: queries.lines.map((line) => ({
      ...lineFrom(line),
      relevant: Array.isArray(line.relevant) ? line.relevant.map(String) : [],
      category: line.category === undefined ? undefined : String(line.category),
    })),
    sha256: { documents: documents.sha256, queries: queries.sha256 },
  };
}

type JsonLine = Readonly<Record<string, unknown>>;

async function readLines(path: string): Promise<{ readonly lines: JsonLine[]; readonly sha256: string }> {
  const bytes = await readFile(path).catch((error: unknown) => {
    throw new StartupError(`${path} cannot be read`, { cause: error });
  });
  const lines: JsonLine[] = [];
  for (const [index, line] of bytes.toString("utf8").split("\n").entries()) {
    if (line.trim() === "") continue;
    try {
      lines.push(JSON.parse(line));
    } catch (error) {
      throw new StartupError(`line ${index + 1} of ${path} is not JSON`, { cause: error });
    }
  }
  return { lines, sha256: createHash("sha256").update(bytes).digest("hex") };
}

function lineFrom({ scope, id, text }: JsonLine): CollectionLine {
  return { scope: String(scope ?? ""), id: String(id), text: String(text ?? "") };
}
