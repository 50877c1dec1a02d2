import { type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { Code, type MemoryClient, memoryServiceErrorFrom } from "memory-service-client";
import type { FilterSchema } from "memory-service-client/memoryservice/v1/filter_pb.js";
import {
  type EmbeddingVersion,
  type Memory,
  Memory_Embedding_State,
  type MemoryRecord,
  MemoryRecordSchema,
  View,
} from "memory-service-client/memoryservice/v1/memory_pb.js";
import {
  IfExists,
  type ImportRequestSchema,
  type ImportResponse,
  ImportRequest_Options_OnError as OnError,
} from "memory-service-client/memoryservice/v1/memory_service_pb.js";
import { LIMITS } from "../../memory/model/limits.ts";
import { LEGACY_KEY } from "../convert/legacy-record.ts";

/** Where memories go: a domain of a running server, or of one within this process. */
export interface TargetDomain {
  readonly client: MemoryClient["raw"];
  /** Never empty. */
  readonly domain: string;
  /** For people: `the server at http://127.0.0.1:50051`. */
  readonly name: string;
  /** Messages to a server are bounded. */
  readonly remote: boolean;
  /** There is no database yet, and none is to be made: nothing is asked. */
  readonly empty?: boolean;
}

type Filter = MessageInitShape<typeof FilterSchema>;

/** Of a message beside its record. */
const ENVELOPE_BYTES = 64;

/** The memories that have these ids; none if there is no such domain. */
export async function findMemories(
  target: TargetDomain,
  ids: readonly string[],
  signal: AbortSignal,
): Promise<Map<string, Memory>> {
  const found = new Map<string, Memory>();
  if (target.empty) return found;
  for (let first = 0; first < ids.length; first += LIMITS.filterValues) {
    const values = ids.slice(first, first + LIMITS.filterValues);
    const filter: Filter = { condition: { case: "ids", value: { values } } };
    try {
      for await (const memory of listMemories(target, filter, signal)) found.set(memory.id, memory);
    } catch (error) {
      // A memory of its own may be larger than a page; read alone, it is not bounded.
      if (memoryServiceErrorFrom(error).reason !== "RESPONSE_TOO_LARGE") throw error;
      for (const id of values) {
        const memory = await getMemory(target, id, signal);
        if (memory !== undefined) found.set(id, memory);
      }
    }
  }
  return found;
}

export async function getMemory(
  { client, domain }: TargetDomain,
  id: string,
  signal: AbortSignal,
): Promise<Memory | undefined> {
  try {
    return (await client.memories.get({ domain, id }, { signal })).memory;
  } catch (error) {
    if (memoryServiceErrorFrom(error).code === Code.NotFound) return undefined;
    throw error;
  }
}

/** All that match, oldest first; none if there is no such domain. */
export async function* listMemories(
  { client, domain }: TargetDomain,
  filter: Filter,
  signal: AbortSignal,
  view = View.FULL,
): AsyncGenerator<Memory, void, undefined> {
  let pageToken = "";
  do {
    let page: Awaited<ReturnType<typeof client.memories.list>>;
    try {
      page = await client.memories.list(
        { domain, filter, pageSize: LIMITS.pageSize, pageToken, view },
        { signal },
      );
    } catch (error) {
      if (memoryServiceErrorFrom(error).reason === "DOMAIN_NOT_FOUND") return;
      throw error;
    }
    yield* page.memories;
    pageToken = page.nextPageToken;
  } while (pageToken !== "");
}

/** Those that imports of old data have brought; only those of one run, if it is given. */
export function importedBy(run: string | undefined): Filter {
  return {
    condition: {
      case: "metadata",
      value:
        run === undefined
          ? { path: [LEGACY_KEY, "run"], test: { case: "exists", value: true } }
          : {
              path: [LEGACY_KEY, "run"],
              test: { case: "equals", value: { kind: { case: "stringValue", value: run } } },
            },
    },
  };
}

/** Stores records; what cannot be stored is told in the answer. */
export async function importRecords(
  { client, domain }: TargetDomain,
  records: readonly MemoryRecord[],
  how: { readonly replace: boolean; readonly embeddingVersion?: EmbeddingVersion | undefined },
  signal: AbortSignal,
): Promise<ImportResponse> {
  async function* messages(): AsyncGenerator<MessageInitShape<typeof ImportRequestSchema>> {
    yield {
      item: {
        case: "options",
        value: {
          domain,
          ifExists: how.replace ? IfExists.REPLACE : IfExists.FAIL,
          onError: OnError.CONTINUE,
          ...(how.embeddingVersion === undefined ? {} : { embeddingVersion: how.embeddingVersion }),
        },
      },
    };
    for (const record of records) yield { item: { case: "record", value: record } };
  }
  return await client.memories.import(messages(), { signal });
}

/** Why a record cannot be sent to a server, in words; undefined: it can. */
export function sizeProblem({ remote }: TargetDomain, record: MemoryRecord): string | undefined {
  if (!remote || (record.memory?.content.length ?? 0) * 3 + metadataBound(record) < LIMITS.messageBytes / 2)
    return undefined;
  const bytes = toBinary(MemoryRecordSchema, record).length + ENVELOPE_BYTES;
  return bytes <= LIMITS.messageBytes
    ? undefined
    : `has ${bytes} bytes as a message, of which a server takes ${LIMITS.messageBytes}: stop the server and import without it`;
}

function metadataBound({ memory }: MemoryRecord): number {
  return JSON.stringify(memory?.metadata ?? {}).length * 3;
}

/** How many of the memories that imports brought wait for their embedding, at least; 0: none. */
export async function countPending(target: TargetDomain, signal: AbortSignal): Promise<number> {
  const pending: Filter = {
    condition: { case: "embeddingState", value: Memory_Embedding_State.PENDING },
  };
  const filter: Filter = {
    condition: { case: "allOf", value: { filters: [importedBy(undefined), pending] } },
  };
  const { client, domain } = target;
  try {
    const page = await client.memories.list({ domain, filter, pageSize: 1, view: View.SNIPPET }, { signal });
    if (page.memories.length === 0) return 0;
    const { domain: figures } = await client.domains.getDomain({ name: domain }, { signal });
    return Math.max(1, Number(figures?.pendingCount ?? 1));
  } catch (error) {
    if (memoryServiceErrorFrom(error).reason === "DOMAIN_NOT_FOUND") return 0;
    throw error;
  }
}

/** Microseconds as the contract writes them. */
export function timestampOf(time: bigint) {
  const second = 1_000_000n;
  const rest = ((time % second) + second) % second;
  return { ...timestampFromDate(new Date(0)), seconds: (time - rest) / second, nanos: Number(rest) * 1_000 };
}
