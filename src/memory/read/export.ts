import type { CallContext } from "../model/call-context.ts";
import type { EmbeddingVersionRecord } from "../model/domain.ts";
import type { EmbeddedChunk } from "../model/draft.ts";
import { domainNotFound, ServiceError } from "../model/errors.ts";
import type { Filter } from "../model/filter.ts";
import { MAX_RESPONSE_BYTES } from "../model/limits.ts";
import type { Memory, Microseconds } from "../model/memory.ts";
import type { ListedMemory } from "../model/memory-store.ts";
import type { Repository } from "../model/repository.ts";
import { memoryBytes } from "./message-size.ts";
import { digestOf, type PageTokens } from "./page-token.ts";

export interface ExportCommand {
  readonly domain: string;
  /** Undefined: all memories. */
  readonly filter: Filter | undefined;
  readonly embeddings: boolean;
  /** "": from the beginning. */
  readonly cursor: string;
}

export interface ExportedRecord {
  readonly memory: Memory;
  /** None unless asked for, while the memory has no embedding of the export's version, or if they are too large for a message. */
  readonly chunks: readonly EmbeddedChunk[];
  /** Where to go on after this record. */
  readonly cursor: string;
}

export interface RunningExport {
  readonly domain: string;
  readonly exportTime: Microseconds;
  /** What made the embeddings; undefined if there are none. */
  readonly embeddingVersion: EmbeddingVersionRecord | undefined;
  /** Oldest first. To be iterated once. */
  readonly records: AsyncIterable<ExportedRecord>;
}

/** @throws ServiceError DOMAIN_NOT_FOUND, INVALID_PAGE_TOKEN; while iterating, RESPONSE_TOO_LARGE */
export type Export = (command: ExportCommand, call: CallContext) => Promise<RunningExport>;

/** Memories read at once; fewer if they take about as much as a message may. */
const PAGE_SIZE = 500;

/** Vectors read at once: of 768 dimensions, 800 KB. */
const CHUNKS_AT_ONCE = 256;

/** Bytes that a chunk takes beside its vector. */
const CHUNK_BYTES = 32;

const order = { by: "create_time", descending: false } as const;

/** Exports a domain page by page; between pages nothing is held but the last position. */
export function createExport(dependencies: {
  readonly repository: Repository;
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
          { filter, order, after, limit: PAGE_SIZE, content: true },
          signal,
        );
        // Of this name there may be another domain by now.
        if ((await repository.readDomain(name, signal))?.id !== domain?.id) throw domainNotFound(name);
        for (const memories of parted(page)) {
          const chunks =
            embeddingVersion === undefined
              ? undefined
              : await repository.readEmbeddings(name, memories, embeddingVersion.version, signal);
          for (const memory of memories) {
            const position = [String(memory.createTime), memory.id];
            const own = fitting(memory, chunks?.get(memory.id) ?? []);
            yield { memory, chunks: own, cursor: await tokens.seal(query, position) };
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

/** A page in parts whose vectors are read together. */
function parted(page: readonly ListedMemory[]): Memory[][] {
  const parts: Memory[][] = [];
  let chunks = Number.POSITIVE_INFINITY;
  for (const { memory } of page) {
    if (chunks + memory.chunkCount > CHUNKS_AT_ONCE) {
      parts.push([]);
      chunks = 0;
    }
    parts.at(-1)?.push(memory);
    chunks += memory.chunkCount;
  }
  return parts;
}

/**
 * The chunks, if they fit into a message with their memory.
 *
 * @throws ServiceError RESPONSE_TOO_LARGE if the memory alone does not.
 */
function fitting(memory: Memory, chunks: readonly EmbeddedChunk[]): readonly EmbeddedChunk[] {
  const bytes = memoryBytes(memory);
  if (bytes > MAX_RESPONSE_BYTES) {
    const { domain, id } = memory;
    throw new ServiceError("RESPONSE_TOO_LARGE", `memory "${id}" does not fit into one message`, {
      metadata: { domain, id },
    });
  }
  const further = chunks.reduce((sum, { vector }) => sum + vector.byteLength + CHUNK_BYTES, 0);
  return bytes + further > MAX_RESPONSE_BYTES ? [] : chunks;
}

function keyFrom([time, id]: readonly string[]) {
  if (time === undefined || id === undefined) throw new Error("a cursor without its position");
  return { time: BigInt(time), id };
}
