import { Code, type MemoryClient, memoryServiceErrorFrom } from "memory-service-client";
import type { Memory } from "memory-service-client/memoryservice/v1/memory_pb.js";
import {
  ListRequest_OrderBy as OrderBy,
  SearchMode,
} from "memory-service-client/memoryservice/v1/memory_service_pb.js";
import { DEFAULT_LIMIT, LIMITS } from "../memory/model/limits.ts";
import type { FoundMemory, MemoryTools, StoreArguments } from "./memory-tools.ts";

const CALL_TIMEOUT_MS = 30_000;

/** For a memory that has its id already. */
export interface StoreWithId {
  /** Returns the id; undefined: a new one. */
  storeWithId(memory: StoreArguments, id: string | undefined): Promise<string>;
}

/**
 * The old tools by this service.
 *
 * @param domainOf the domain that an assistant means by a name.
 */
export function createServiceTools(
  client: MemoryClient,
  domainOf: (name: string) => string,
): MemoryTools & StoreWithId {
  const named = (domain: string | undefined) => (domain === undefined ? "" : domainOf(domain));
  const options = () => ({ signal: AbortSignal.timeout(CALL_TIMEOUT_MS) });

  const storeWithId: StoreWithId["storeWithId"] = async ({ content, domain, source, importance }, id) => {
    const { memory } = await client.store({
      ...(id === undefined ? {} : { id }),
      content,
      domain: named(domain),
      source: source ?? "",
      ...(importance === undefined ? {} : { importance }),
    });
    return memory?.id ?? "";
  };

  return {
    storeWithId,

    store: (memory) => storeWithId(memory, undefined),

    async update({ memoryId: id, domain, content, importance }) {
      const key = { id, domain: named(domain) };
      const paths = [
        ...(content === undefined ? [] : ["content"]),
        ...(importance === undefined ? [] : ["importance"]),
      ];
      return await foundOr(false, async () => {
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

    async search({ query, domain, limit: asked, useVector }) {
      const limit = limitFrom(asked);
      if (limit === 0) return [];
      return await foundOr<FoundMemory[]>([], async () => {
        if (query.trim() === "") {
          const { memories } = await client.raw.memories.list(
            { domain: named(domain), orderBy: OrderBy.UPDATE_TIME_DESC, pageSize: limit },
            options(),
          );
          return memories.map((memory) => foundFrom(memory, 0));
        }
        const { hits } = await client.search({
          query,
          domain: named(domain),
          limit,
          mode: useVector ? SearchMode.HYBRID : SearchMode.TEXT,
        });
        return hits.flatMap(({ memory, score }) => (memory === undefined ? [] : [foundFrom(memory, score)]));
      });
    },

    async listDomains() {
      const names: string[] = [];
      for (let pageToken = ""; ; ) {
        const page = await foundOr(undefined, () =>
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
 * How many memories a tool returns: 5 where nothing or less than 0 is asked for, at most 1,000; fractions are cut. The old
 * server refused the one or returned everything, depending on its version.
 */
export function limitFrom(asked: number | null): number {
  if (asked === null || Number.isNaN(asked) || asked < 0) return DEFAULT_LIMIT;
  return Math.min(LIMITS.searchLimit, Math.floor(asked));
}

/** What `ask` returns; `missing` if the memory or its domain is not there. */
async function foundOr<T>(missing: T, ask: () => Promise<T>): Promise<T> {
  try {
    return await ask();
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

/** With the microseconds, as far as a double holds them. */
function secondsOf({ seconds, nanos }: { readonly seconds: bigint; readonly nanos: number }): number {
  return Number(seconds) + nanos / 1e9;
}
