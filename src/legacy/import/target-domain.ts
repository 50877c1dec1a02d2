import { type MessageInitShape, toBinary } from "@bufbuild/protobuf";
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

/** The domain to import into, of a running server or of one in this process. */
export interface TargetDomain {
  readonly client: MemoryClient["raw"];
  /** Name of the domain, never empty. */
  readonly domain: string;
  /** Name of the target for display, such as `the server at http://127.0.0.1:50051`. */
  readonly name: string;
  /** Whether the target is a running server, which limits the size of messages. */
  readonly remote: boolean;
  /** The database does not exist yet and must not be created, so that no calls are made. */
  readonly empty?: boolean;
}

type Filter = MessageInitShape<typeof FilterSchema>;

/** Bytes that a message has in addition to its record. */
const ENVELOPE_BYTES = 64;

/** Finds the memories with these ids; none if the domain does not exist. */
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
      // The page is too large for a message. A single memory is not bounded, so get them one by one.
      if (memoryServiceErrorFrom(error).reason !== "RESPONSE_TOO_LARGE") throw error;
      for (const id of values) {
        const memory = await getMemory(target, id, signal);
        if (memory !== undefined) found.set(id, memory);
      }
    }
  }
  return found;
}

/** Gets a memory; undefined if it does not exist. */
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

/** Lists the memories that match the filter, oldest first; none if the domain does not exist. */
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

/** Creates a filter for imported memories, optionally of one run only. */
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

/** Stores records. The response names those that were rejected. */
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

/** Returns why a record is too large to send to the target; undefined if it is not. */
export function sizeProblem({ remote }: TargetDomain, record: MemoryRecord): string | undefined {
  if (
    !remote ||
    (record.memory?.content.length ?? 0) * 3 + maxMetadataBytes(record) < LIMITS.messageBytes / 2
  )
    return undefined;
  const bytes = toBinary(MemoryRecordSchema, record).length + ENVELOPE_BYTES;
  return bytes <= LIMITS.messageBytes
    ? undefined
    : `it has ${bytes} bytes as a message, but a server accepts at most ${LIMITS.messageBytes}; stop the server and import without it`;
}

function maxMetadataBytes({ memory }: MemoryRecord): number {
  return JSON.stringify(memory?.metadata ?? {}).length * 3;
}

/** Returns a lower bound on the number of imported memories that wait for their embedding; 0 if none does. */
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
