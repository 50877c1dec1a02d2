import { text as readText } from "node:stream/consumers";
import { type DescMessage, type MessageShape, toJson } from "@bufbuild/protobuf";
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
import {
  durationMsFrom,
  filterFrom,
  numberFrom,
  objectFrom,
  wholeNumberFrom,
} from "../client/parse-options.ts";
import { CALL_TIMEOUT_MS, serverUrl, withClient } from "../client/server-client.ts";
import { UsageError } from "../usage-error.ts";
import { formatDomains, formatList, formatMemory, formatSearch } from "./format-memories.ts";

/** Options that every command accepts. */
export interface CommonOptions {
  readonly server?: string;
  readonly domain?: string;
  /** Print JSON, even on a terminal. */
  readonly json?: boolean;
}

const callOptions = { timeoutMs: CALL_TIMEOUT_MS };
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

/** Stores the content, or the text on standard input if no content is given. */
export async function store(content: string | undefined, options: StoreOptions): Promise<void> {
  if (content === undefined && process.stdin.isTTY) {
    throw new UsageError("no content given; pass it as an argument or on standard input");
  }
  const metadata = options.metadata === undefined ? undefined : objectFrom("--metadata", options.metadata);
  const request = {
    content: content ?? (await readText(process.stdin)),
    domain: options.domain ?? "",
    // Generated here, so that a retried call cannot store the memory twice.
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
      : { expiry: { case: "ttl" as const, value: durationFromMs(durationMsFrom("--ttl", options.ttl)) } }),
  };
  const response = await withClient(await serverUrl(options.server), ({ memories }) =>
    memories.store(request, callOptions),
  );
  const outcome = StoreOutcome[response.outcome].toLowerCase();
  print(
    options,
    StoreResponseSchema,
    response,
    () => `${outcome} ${response.memory?.id} in ${response.memory?.domain}\n`,
  );
}

export interface SearchOptions extends CommonOptions {
  readonly limit?: string;
  readonly mode?: "hybrid" | "semantic" | "text";
  readonly filter?: string;
}

/** Searches memories and prints the hits. */
export async function search(query: string, options: SearchOptions): Promise<void> {
  const request = {
    query,
    domain: options.domain ?? "",
    mode: { hybrid: SearchMode.HYBRID, semantic: SearchMode.SEMANTIC, text: SearchMode.TEXT }[
      options.mode ?? "hybrid"
    ],
    ...(options.limit === undefined ? {} : { limit: wholeNumberFrom("--limit", options.limit) }),
    ...(options.filter === undefined ? {} : { filter: filterFrom(options.filter) }),
  };
  const response = await withClient(await serverUrl(options.server), ({ memories }) =>
    memories.search(request, callOptions),
  );
  print(options, SearchResponseSchema, response, () => formatSearch(response));
}

/** Prints one memory. */
export async function get(id: string, options: CommonOptions): Promise<void> {
  const request = { id, domain: options.domain ?? "" };
  const { memory } = await withClient(await serverUrl(options.server), ({ memories }) =>
    memories.get(request, callOptions),
  );
  if (memory !== undefined) print(options, MemorySchema, memory, () => formatMemory(memory));
}

export interface ListOptions extends CommonOptions {
  readonly limit?: string;
  readonly filter?: string;
}

/** Prints memories page by page, newest first. In JSON, each memory is one line and includes its content. */
export async function list(options: ListOptions): Promise<void> {
  let remaining = wholeNumberFrom("--limit", options.limit ?? "50");
  const asText = printsText(options);
  const filter = options.filter === undefined ? undefined : filterFrom(options.filter);
  await withClient(await serverUrl(options.server), async ({ memories }) => {
    let pageToken = "";
    do {
      const page: { memories: Memory[]; nextPageToken: string } = await memories.list(
        {
          domain: options.domain ?? "",
          pageSize: Math.max(1, Math.min(remaining, PAGE_SIZE)),
          pageToken,
          view: asText ? View.SNIPPET : View.FULL,
          ...(filter === undefined ? {} : { filter }),
        },
        callOptions,
      );
      const some = page.memories.slice(0, remaining);
      if (asText) process.stdout.write(formatList(some));
      else for (const memory of some) printJson(MemorySchema, memory);
      remaining -= some.length;
      pageToken = page.nextPageToken;
    } while (pageToken !== "" && remaining > 0);
  });
}

/** Deletes memories. Stops with an error at the first one that does not exist. */
export async function remove(ids: readonly string[], options: CommonOptions): Promise<void> {
  await withClient(await serverUrl(options.server), async ({ memories }) => {
    for (const id of ids) {
      const response = await memories.delete({ id, domain: options.domain ?? "" }, callOptions);
      print(options, DeleteResponseSchema, response, () => `deleted ${id}\n`);
    }
  });
}

/** Prints the domains. In JSON, each domain is one line. */
export async function domains(options: CommonOptions): Promise<void> {
  const found: Domain[] = [];
  await withClient(await serverUrl(options.server), async (client) => {
    let pageToken = "";
    do {
      const page: { domains: Domain[]; nextPageToken: string } = await client.domains.listDomains(
        { pageSize: PAGE_SIZE, pageToken },
        callOptions,
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

function print<Desc extends DescMessage>(
  options: CommonOptions,
  schema: Desc,
  message: MessageShape<Desc>,
  format: () => string,
): void {
  if (printsText(options)) process.stdout.write(format());
  else printJson(schema, message);
}

/** Prints a message on one line, in protobuf's JSON form. */
function printJson<Desc extends DescMessage>(schema: Desc, message: MessageShape<Desc>): void {
  process.stdout.write(`${JSON.stringify(toJson(schema, message))}\n`);
}
