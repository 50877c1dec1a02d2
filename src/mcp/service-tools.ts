import { Code, type MemoryClient, memoryServiceErrorFrom } from "memory-service-client";
import type { Memory } from "memory-service-client/memoryservice/v1/memory_pb.js";
import {
  ListRequest_OrderBy as OrderBy,
  SearchMode,
} from "memory-service-client/memoryservice/v1/memory_service_pb.js";
import { DEFAULT_LIMIT, LIMITS } from "../memory/model/limits.ts";
import type { FoundMemory, MemoryTools, StoreArguments } from "./memory-operations.ts";

const CALL_TIMEOUT_MS = 30_000;

/** Stores a memory under an id that the caller chooses. */
export interface StoreWithId {
  /** Stores a memory and returns its id; without an id, the server generates one. */
  storeWithId(memory: StoreArguments, id: string | undefined): Promise<string>;
}

/**
 * Implements the tools with calls to the service.
 *
 * @param domainOf maps a name that an assistant uses to the name of a domain.
 */
export function createServiceTools(
  client: MemoryClient,
  domainOf: (name: string) => string,
): MemoryTools & StoreWithId {
  const domainName = (domain: string | undefined) => (domain === undefined ? "" : domainOf(domain));
  const options = () => ({ signal: AbortSignal.timeout(CALL_TIMEOUT_MS) });

  const storeWithId: StoreWithId["storeWithId"] = async ({ content, domain, source, importance }, id) => {
    const { memory } = await client.store({
      ...(id === undefined ? {} : { id }),
      content,
      domain: domainName(domain),
      source: source ?? "",
      ...(importance === undefined ? {} : { importance }),
    });
    return memory?.id ?? "";
  };

  return {
    storeWithId,

    store: (memory) => storeWithId(memory, undefined),

    async update({ memoryId: id, domain, content, importance }) {
      const key = { id, domain: domainName(domain) };
      const paths = [
        ...(content === undefined ? [] : ["content"]),
        ...(importance === undefined ? [] : ["importance"]),
      ];
      return await callOr(false, async () => {
        if (paths.length === 0) await client.raw.memories.get(key, options());
        else {
          const memory = {
            ...key,
            ...(content === undefined ? {} : { content }),
            ...(importance === undefined ? {} : { importance }),
          };
          await client.raw.memories.update({ memory, updateMask: { paths } }, options());
        }
        return true;
      });
    },

    async search({ query, domain, limit: requestedLimit, useVector }) {
      const limit = limitFrom(requestedLimit);
      if (limit === 0) return [];
      return await callOr<FoundMemory[]>([], async () => {
        if (query.trim() === "") {
          const { memories } = await client.raw.memories.list(
            { domain: domainName(domain), orderBy: OrderBy.UPDATE_TIME_DESC, pageSize: limit },
            options(),
          );
          return memories.map((memory) => foundFrom(memory, 0));
        }
        const { hits } = await client.search({
          query,
          domain: domainName(domain),
          limit,
          mode: useVector ? SearchMode.HYBRID : SearchMode.TEXT,
        });
        return hits.flatMap(({ memory, score }) => (memory === undefined ? [] : [foundFrom(memory, score)]));
      });
    },

    async listDomains() {
      const names: string[] = [];
      for (let pageToken = ""; ; ) {
        const page = await callOr(undefined, () =>
          client.raw.domains.listDomains({ pageSize: LIMITS.pageSize, pageToken }, options()),
        );
        names.push(...(page?.domains ?? []).map(({ name }) => name));
        if (!page?.nextPageToken) return names;
        pageToken = page.nextPageToken;
      }
    },
  };
}

/**
 * Returns the number of memories that a tool returns: 5 for null and negative numbers, at most 1,000, fractions rounded
 * down. (Depending on its version, the old server rejected a null or negative limit or returned every memory.)
 */
export function limitFrom(requested: number | null): number {
  if (requested === null || Number.isNaN(requested) || requested < 0) return DEFAULT_LIMIT;
  return Math.min(LIMITS.searchLimit, Math.floor(requested));
}

/** Runs a call; returns `missing` if the memory or its domain does not exist. */
async function callOr<T>(missing: T, call: () => Promise<T>): Promise<T> {
  try {
    return await call();
  } catch (error) {
    const failure = memoryServiceErrorFrom(error);
    if (failure.code === Code.NotFound) return missing;
    throw failure;
  }
}

function foundFrom(memory: Memory, score: number): FoundMemory {
  const { createTime, updateTime } = memory;
  return {
    id: memory.id,
    content: memory.content,
    metadata: {
      ...memory.metadata,
      ...(memory.tags.length === 0 ? {} : { tags: memory.tags }),
      ...(memory.source === "" ? {} : { source: memory.source }),
      ...(memory.importance === undefined ? {} : { importance: memory.importance }),
      ...(createTime === undefined ? {} : { created_at: secondsOf(createTime) }),
      ...(updateTime === undefined ? {} : { updated_at: secondsOf(updateTime) }),
    },
    score,
  };
}

/** Converts a timestamp to seconds, with as much of the fraction as a double can hold. */
function secondsOf({ seconds, nanos }: { readonly seconds: bigint; readonly nanos: number }): number {
  return Number(seconds) + nanos / 1e9;
}
