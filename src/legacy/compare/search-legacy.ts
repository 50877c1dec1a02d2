import { StartupError } from "../../util/startup-error.ts";
import type { LegacySource } from "../readers/open-legacy-source.ts";
import { MEMORIES } from "../readers/read-database.ts";
import { decodeText } from "../readers/stored-value.ts";
import { dotProduct, normalize } from "../vector-math.ts";
import type { CompareQuery } from "./compare-queries.ts";

/** A memory in a result of the old data. */
export interface LegacyHit {
  readonly id: string;
  /** Cosine similarity of the query and the best chunk; undefined for text search. */
  readonly similarity: number | undefined;
}

/** The result of a query on the old data. */
export interface LegacyAnswer {
  readonly hits: readonly LegacyHit[];
  /**
   * Whether the first hit stands out: its similarity is at least 4 standard deviations above the mean of all memories
   * and .02 above that of the second hit. Otherwise many memories are about equally similar. For text search, whether
   * there is exactly one hit.
   */
  readonly clear: boolean;
}

/** Some unrelated memory always comes close to this many standard deviations above the mean. */
const CLEAR_DEVIATIONS = 4;
const CLEAR_MARGIN = 0.02;

/**
 * Searches the old data as the old server does, but exactly: ranks every memory by its best chunk and ignores zero
 * vectors (which appear to have a cosine of .5), earlier texts and deleted memories. Reads the index once. Without
 * vectors or without a text, uses the text search of the old server.
 */
export async function searchLegacy(
  source: LegacySource,
  queries: readonly CompareQuery[],
  signal: AbortSignal,
): Promise<LegacyAnswer[]> {
  const { index, findings } = source.vectors;
  const usable = index !== undefined && findings.problem === undefined;
  const byVector = queries.flatMap((query, position) => {
    if (!usable || !query.useVector || query.text === "" || query.embedding === undefined) return [];
    if (query.embedding.length !== index.dimensions) {
      throw new StartupError(
        `the old vectors have ${index.dimensions} dimensions, but the embedding of ${JSON.stringify(query.text)} has ${query.embedding.length}`,
        { remedy: "set OLLAMA_EMBEDDING_MODEL to the model of the old server" },
      );
    }
    return [{ position, vector: normalize(query.embedding), best: new Map<string, number>() }];
  });
  if (usable && byVector.length > 0) {
    const live = source.scratch.prepare(
      `select c.row, c.key from chunk c join memory m on m.key = c.key where c.zero = 0 and c.row < ? order by c.row`,
    );
    for (const { row, key } of live.iterate(index.rows)) {
      signal.throwIfAborted();
      const vector = await index.row(Number(row));
      for (const query of byVector) {
        const similarity = dotProduct(query.vector, vector);
        const known = query.best.get(String(key));
        if (known === undefined || similarity > known) query.best.set(String(key), similarity);
      }
    }
  }
  const answers = new Map(byVector.map(({ position, best }) => [position, best]));
  return queries.map((query, position) => {
    const best = answers.get(position);
    return best !== undefined && best.size > 0 ? nearest(best, query.limit) : searchText(source, query);
  });
}

function nearest(best: ReadonlyMap<string, number>, limit: number): LegacyAnswer {
  const ranked = [...best].sort(([, a], [, b]) => b - a);
  const similarities = ranked.map(([, similarity]) => similarity);
  const mean = similarities.reduce((sum, value) => sum + value, 0) / similarities.length;
  const variance = similarities.reduce((sum, value) => sum + (value - mean) ** 2, 0) / similarities.length;
  const [first = 0, second = -1] = similarities;
  return {
    hits: ranked.slice(0, limit).map(([key, similarity]) => ({ id: String(JSON.parse(key)), similarity })),
    clear: first - mean >= CLEAR_DEVIATIONS * Math.sqrt(variance) && first - second >= CLEAR_MARGIN,
  };
}

/**
 * Emulates SQLite's `content like '%...%'`, newest first: case-insensitive for ASCII, with the wildcards `%` and `_`.
 */
function searchText(source: LegacySource, { text, limit }: CompareQuery): LegacyAnswer {
  const pattern = new RegExp(
    [...foldAscii(text)]
      .map((character) =>
        character === "%"
          ? ".*"
          : character === "_"
            ? "."
            : character.replace(/[\\^$.*+?()[\]{}|/]/g, "\\$&"),
      )
      .join(""),
    "su",
  );
  const found: { readonly id: string; readonly updated: number }[] = [];
  for (const { id = null, content = null, updated_at } of source.database.rows(MEMORIES)) {
    if (pattern.test(foldAscii(decodeText(content).text))) {
      found.push({ id: decodeText(id).text, updated: typeof updated_at === "number" ? updated_at : 0 });
    }
  }
  found.sort((a, b) => b.updated - a.updated);
  return {
    hits: found.slice(0, limit).map(({ id }) => ({ id, similarity: undefined })),
    clear: found.length === 1,
  };
}

function foldAscii(text: string): string {
  return text.replace(/[A-Z]+/g, (letters) => letters.toLowerCase());
}
