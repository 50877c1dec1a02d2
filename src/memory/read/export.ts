import type { CallContext } from "../model/call-context.ts";
import type { EmbeddingVersionRecord } from "../model/domain.ts";
import type { DomainStore, EmbeddingVersionStore } from "../model/domain-store.ts";
import type { EmbeddedChunk } from "../model/draft.ts";
import { domainNotFound, ServiceError } from "../model/errors.ts";
import type { Filter } from "../model/filter.ts";
import { LIMITS, MAX_RESPONSE_BYTES } from "../model/limits.ts";
import type { Memory, Microseconds } from "../model/memory.ts";
import type { ListedMemory, MemoryStore } from "../model/memory-store.ts";
import { memoryBytes } from "./message-size.ts";
import { digestOf, type PageTokens } from "./page-token.ts";

export interface ExportCommand {
  readonly domain: string;
  /** Undefined for all memories. */
  readonly filter: Filter | undefined;
  readonly embeddings: boolean;
  /** "" to start from the beginning. */
  readonly cursor: string;
}

export interface ExportedRecord {
  readonly memory: Memory;
  /**
   * Empty if embeddings were not requested, if the memory has no embedding of the export's version, or if its chunks do
   * not fit into a message.
   */
  readonly chunks: readonly EmbeddedChunk[];
  /** Where to resume after this record. */
  readonly cursor: string;
}

export interface RunningExport {
  readonly domain: string;
  readonly exportTime: Microseconds;
  /** The embedding version of the chunks; undefined if there are none. */
  readonly embeddingVersion: EmbeddingVersionRecord | undefined;
  /** Oldest first. Can be iterated only once. */
  readonly records: AsyncIterable<ExportedRecord>;
}

/** @throws ServiceError DOMAIN_NOT_FOUND, INVALID_PAGE_TOKEN; while iterating, RESPONSE_TOO_LARGE */
export type Export = (command: ExportCommand, call: CallContext) => Promise<RunningExport>;

/** Memories read by one statement; fewer if they would exceed a message. */
const PAGE_SIZE = 500;

/** Embeddings read by one statement: 800 KB for 768 dimensions. */
const CHUNKS_PER_READ = 256;

/** Size of a chunk besides its embedding. */
const CHUNK_OVERHEAD_BYTES = 32;

const order = { by: "create_time", descending: false } as const;

/** Creates Export, which reads a domain page by page. It holds only the last position between pages. */
export function createExport(dependencies: {
  readonly repository: DomainStore & EmbeddingVersionStore & MemoryStore;
  readonly tokens: PageTokens;
}): Export {
  const { repository, tokens } = dependencies;

  return async ({ domain: name, filter, embeddings, cursor }, { signal }) => {
    const domain = await repository.readDomain(name, signal);
    if (domain === undefined) throw domainNotFound(name);
    const query = ["Export", domain.id, embeddings, digestOf(filter ?? null)];
    const start = cursor === "" ? undefined : keyFrom(await tokens.open(query, cursor, "cursor"));
    const { embeddingVersion: version } = domain;
    const [embeddingVersion] =
      embeddings && version !== undefined ? await repository.readEmbeddingVersions([version], signal) : [];

    async function* records(): AsyncGenerator<ExportedRecord> {
      for (let after = start; ; ) {
        const page = await repository.list(
          name,
          {
            filter,
            order,
            after,
            limit: PAGE_SIZE,
            content: true,
            maxBytes: LIMITS.messageBytes,
            previewLength: 0,
          },
          signal,
        );
        // The domain may have been recreated since the previous page.
        if ((await repository.readDomain(name, signal))?.id !== domain?.id) throw domainNotFound(name);
        for (const memories of groupForReading(page)) {
          const chunks =
            embeddingVersion === undefined
              ? undefined
              : await repository.readEmbeddings(name, memories, embeddingVersion.version, signal);
          for (const memory of memories) {
            const position = [String(memory.createTime), memory.id];
            const fitting = fittingChunks(memory, chunks?.get(memory.id) ?? []);
            yield { memory, chunks: fitting, cursor: await tokens.seal(query, position) };
          }
        }
        const last = page.at(-1);
        if (last === undefined || (page.length < PAGE_SIZE && !last.more)) return;
        after = { time: last.memory.createTime, id: last.memory.id };
      }
    }

    return {
      domain: name,
      exportTime: BigInt(Date.now()) * 1_000n,
      embeddingVersion,
      records: records(),
    };
  };
}

/** Splits a page into groups whose embeddings are read together. */
function groupForReading(page: readonly ListedMemory[]): Memory[][] {
  const groups: Memory[][] = [];
  let chunks = Number.POSITIVE_INFINITY;
  for (const { memory } of page) {
    if (chunks + memory.chunkCount > CHUNKS_PER_READ) {
      groups.push([]);
      chunks = 0;
    }
    groups.at(-1)?.push(memory);
    chunks += memory.chunkCount;
  }
  return groups;
}

/**
 * Returns the chunks if they fit into a message with their memory; otherwise none.
 *
 * @throws ServiceError RESPONSE_TOO_LARGE if the memory alone does not fit.
 */
function fittingChunks(memory: Memory, chunks: readonly EmbeddedChunk[]): readonly EmbeddedChunk[] {
  const bytes = memoryBytes(memory);
  if (bytes > MAX_RESPONSE_BYTES) {
    const { domain, id } = memory;
    throw new ServiceError("RESPONSE_TOO_LARGE", `memory "${id}" is larger than a message may be`, {
      metadata: { domain, id },
    });
  }
  const further = chunks.reduce((sum, { vector }) => sum + vector.byteLength + CHUNK_OVERHEAD_BYTES, 0);
  return bytes + further > MAX_RESPONSE_BYTES ? [] : chunks;
}

function keyFrom([time, id]: readonly string[]) {
  if (time === undefined || id === undefined) throw new Error("a cursor without its position");
  return { time: BigInt(time), id };
}
