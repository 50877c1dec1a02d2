import { text as readText } from "node:stream/consumers";
import { type DescMessage, type JsonObject, type MessageShape, toJson } from "@bufbuild/protobuf";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import { createMemoryId } from "memory-service-client";
import { type Domain, DomainSchema } from "memory-service-client/memoryservice/v1/domain_service_pb.js";
import { type Memory, MemorySchema, View } from "memory-service-client/memoryservice/v1/memory_pb.js";
import {
  DeleteResponseSchema,
  IfExists,
  SearchMode,
  SearchResponseSchema,
  StoreOutcome,
  StoreResponseSchema,
} from "memory-service-client/memoryservice/v1/memory_service_pb.js";
import { filterFrom, jsonFrom, wholeNumber } from "../client/parse-options.ts";
import { CALL_TIMEOUT_MS, serverUrl, withClient } from "../client/server-client.ts";
import { UsageError } from "../usage-error.ts";
import { formatDomains, formatList, formatMemory, formatSearch } from "./format-memories.ts";

/** What every command may have. */
export interface CommonOptions {
  readonly server?: string;
  readonly domain?: string;
  /** As JSON also on a terminal. */
  readonly json?: boolean;
}

const call = { timeoutMs: CALL_TIMEOUT_MS };
const PAGE_SIZE = 200;

export interface StoreOptions extends CommonOptions {
  readonly id?: string;
  readonly source?: string;
  readonly importance?: string;
  readonly tag?: readonly string[];
  readonly metadata?: string;
  readonly ttl?: string;
  readonly ifExists?: "fail" | "replace" | "keep";
}

/** Stores the content, or what standard input holds. */
export async function store(content: string | undefined, options: StoreOptions): Promise<void> {
  if (content === undefined && process.stdin.isTTY) {
    throw new UsageError("no content is given, as an argument or on standard input");
  }
  const metadata = options.metadata === undefined ? undefined : objectFrom("--metadata", options.metadata);
  const request = {
    content: content ?? (await readText(process.stdin)),
    domain: options.domain ?? "",
    // Made here, so that a repeated call cannot store it twice.
    id: options.id ?? createMemoryId(),
    source: options.source ?? "",
    tags: [...(options.tag ?? [])],
    ifExists: { fail: IfExists.FAIL, replace: IfExists.REPLACE, keep: IfExists.KEEP }[
      options.ifExists ?? "fail"
    ],
    ...(options.importance === undefined
      ? {}
      : { importance: numberFrom("--importance", options.importance) }),
    ...(metadata === undefined ? {} : { metadata }),
    ...(options.ttl === undefined
      ? {}
      : { expiry: { case: "ttl" as const, value: durationFromMs(millisecondsFrom(options.ttl)) } }),
  };
  const answer = await withClient(await serverUrl(options.server), ({ memories }) =>
    memories.store(request, call),
  );
  const outcome = StoreOutcome[answer.outcome].toLowerCase();
  say(
    options,
    StoreResponseSchema,
    answer,
    () => `${outcome} ${answer.memory?.id} in ${answer.memory?.domain}\n`,
  );
}

export interface SearchOptions extends CommonOptions {
  readonly limit?: string;
  readonly mode?: "hybrid" | "semantic" | "text";
  readonly filter?: string;
}

/** Finds memories. */
export async function search(query: string, options: SearchOptions): Promise<void> {
  const request = {
    query,
    domain: options.domain ?? "",
    mode: { hybrid: SearchMode.HYBRID, semantic: SearchMode.SEMANTIC, text: SearchMode.TEXT }[
      options.mode ?? "hybrid"
    ],
    ...(options.limit === undefined ? {} : { limit: wholeNumber("--limit", options.limit) }),
    ...(options.filter === undefined ? {} : { filter: filterFrom(options.filter) }),
  };
  const answer = await withClient(await serverUrl(options.server), ({ memories }) =>
    memories.search(request, call),
  );
  say(options, SearchResponseSchema, answer, () => formatSearch(answer));
}

/** Shows one memory. */
export async function get(id: string, options: CommonOptions): Promise<void> {
  const request = { id, domain: options.domain ?? "" };
  const { memory } = await withClient(await serverUrl(options.server), ({ memories }) =>
    memories.get(request, call),
  );
  if (memory !== undefined) say(options, MemorySchema, memory, () => formatMemory(memory));
}

export interface ListOptions extends CommonOptions {
  readonly limit?: string;
  readonly filter?: string;
}

/** Lists memories, newest first, page by page; as JSON one a line, with their contents. */
export async function list(options: ListOptions): Promise<void> {
  let left = wholeNumber("--limit", options.limit ?? "50");
  const human = printsText(options);
  const filter = options.filter === undefined ? undefined : filterFrom(options.filter);
  await withClient(await serverUrl(options.server), async ({ memories }) => {
    let pageToken = "";
    do {
      const page: { memories: Memory[]; nextPageToken: string } = await memories.list(
        {
          domain: options.domain ?? "",
          pageSize: Math.max(1, Math.min(left, PAGE_SIZE)),
          pageToken,
          view: human ? View.SNIPPET : View.FULL,
          ...(filter === undefined ? {} : { filter }),
        },
        call,
      );
      const some = page.memories.slice(0, left);
      if (human) process.stdout.write(formatList(some));
      else for (const memory of some) printJson(MemorySchema, memory);
      left -= some.length;
      pageToken = page.nextPageToken;
    } while (pageToken !== "" && left > 0);
  });
}

/** Deletes memories; the first that is missing is an error. */
export async function remove(ids: readonly string[], options: CommonOptions): Promise<void> {
  await withClient(await serverUrl(options.server), async ({ memories }) => {
    for (const id of ids) {
      const answer = await memories.delete({ id, domain: options.domain ?? "" }, call);
      say(options, DeleteResponseSchema, answer, () => `deleted ${id}\n`);
    }
  });
}

/** Lists the domains; as JSON one a line. */
export async function domains(options: CommonOptions): Promise<void> {
  const found: Domain[] = [];
  await withClient(await serverUrl(options.server), async (client) => {
    let pageToken = "";
    do {
      const page: { domains: Domain[]; nextPageToken: string } = await client.domains.listDomains(
        { pageSize: PAGE_SIZE, pageToken },
        call,
      );
      found.push(...page.domains);
      pageToken = page.nextPageToken;
    } while (pageToken !== "");
  });
  if (printsText(options)) process.stdout.write(formatDomains(found));
  else for (const domain of found) printJson(DomainSchema, domain);
}

function printsText({ json = false }: CommonOptions): boolean {
  return !json && process.stdout.isTTY === true;
}

function say<Desc extends DescMessage>(
  options: CommonOptions,
  schema: Desc,
  message: MessageShape<Desc>,
  format: () => string,
): void {
  if (printsText(options)) process.stdout.write(format());
  else printJson(schema, message);
}

/** One JSON object on a line of its own, in protobuf's JSON form. */
function printJson<Desc extends DescMessage>(schema: Desc, message: MessageShape<Desc>): void {
  process.stdout.write(`${JSON.stringify(toJson(schema, message))}\n`);
}

function objectFrom(option: string, text: string): JsonObject {
  const value = jsonFrom(option, text);
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new UsageError(`${option} must be a JSON object, is ${text}`);
  }
  return value;
}

function numberFrom(option: string, text: string): number {
  const value = Number(text);
  if (text.trim() === "" || !Number.isFinite(value))
    throw new UsageError(`${option} must be a number, is "${text}"`);
  return value;
}

const unitMs: Readonly<Record<string, number>> = { s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 };

function millisecondsFrom(text: string): number {
  const [, count, unit = ""] = /^(\d{1,9})([smhd])$/.exec(text) ?? [];
  if (count === undefined) throw new UsageError(`--ttl must be a time as 90s, 30m, 12h or 7d, is "${text}"`);
  return Number(count) * (unitMs[unit] ?? 0);
}
