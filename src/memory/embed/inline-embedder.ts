import type { Logger } from "../../util/logger.ts";
import { untilAborted, within } from "../../util/wait.ts";
import type { CallContext } from "../model/call-context.ts";
import { assertCompatible, type CallerEmbedding } from "../model/caller-embedding.ts";
import type { DomainRecord } from "../model/domain.ts";
import type { DomainStore } from "../model/domain-store.ts";
import type { ContentEmbedding, MemoryDraft } from "../model/draft.ts";
import { EmbedError, type ModelChoice } from "../model/embedder.ts";
import type { EmbeddingQueue } from "../model/embedding-queue.ts";
import type { Memory } from "../model/memory.ts";
import { type ContentEmbedder, embedBudget } from "./content-embedder.ts";

/** inline: wait for the embedding within the budget; background: store the memory as pending at once. */
export type EmbeddingMode = "inline" | "background";

/** The state of an embedding at the end of the budget: `done`, still `running`, or neither. */
export interface EmbeddingAttempt {
  readonly done?: ContentEmbedding;
  readonly running?: Promise<ContentEmbedding>;
  /** Set if `done` is the caller-supplied embedding, which the domain must accept. */
  readonly supplied?: CallerEmbedding;
}

/**
 * Embeds the contents that callers write. Durability does not depend on the embedder: after the budget the memory is
 * committed as pending, and its embedding is written when it is complete.
 */
export interface InlineEmbedder {
  /** Starts an embedding and waits for it within the budget. An EmbedError leaves the memory pending. */
  start(
    content: string,
    source: EmbeddingMode | CallerEmbedding,
    domain: ModelChoice,
    call: CallContext,
  ): Promise<EmbeddingAttempt>;
  /** Reads the domain again if its record, which may be seconds old, has another embedding version. */
  refreshDomain(
    domain: DomainRecord,
    embeddingVersion: number | undefined,
    signal: AbortSignal,
  ): Promise<DomainRecord>;
  /**
   * Checks a caller-supplied embedding for a domain that would have to be created: a refused embedding creates no
   * domain. Accepts any embedding if the domain exists.
   *
   * @param path Path of the embedding's field, for the error.
   * @throws ServiceError INVALID_ARGUMENT
   */
  assertAcceptable(
    domain: string,
    supplied: CallerEmbedding,
    path: string,
    signal: AbortSignal,
  ): Promise<void>;
  /**
   * Returns the embedding fields of a draft.
   *
   * @throws ServiceError INVALID_ARGUMENT if the domain does not accept the caller-supplied embedding
   */
  toDraft(
    content: string,
    attempt: EmbeddingAttempt,
    domain: DomainRecord,
  ): Pick<MemoryDraft, "chunkCount" | "embedding" | "leaseMs">;
  /** Embeds a committed memory in the background if it is pending. */
  completeLater(memory: Memory, attempt: EmbeddingAttempt): void;
  /** Stops waiting for running embeddings, and releases their memories to the workers of all servers. */
  close(): Promise<void>;
}

/** How long the writer of a pending memory keeps its lease while the embedding is running. */
export const LATE_EMBEDDING_LEASE_MS = 30_000;

export function createInlineEmbedder(dependencies: {
  readonly repository: Pick<DomainStore, "findDomain" | "readDomain"> & EmbeddingQueue;
  readonly contents: ContentEmbedder;
  readonly embedBudgetMs: number;
  /** Called with the domain of a new pending memory that this server is not embedding. */
  readonly onPending: (domain: string) => void;
  readonly logger: Logger;
}): InlineEmbedder {
  const { repository, contents, logger, onPending } = dependencies;

  /** Late embeddings are written one at a time. Those of a large batch would otherwise occupy every connection. */
  let lastWrite: Promise<unknown> = Promise.resolve();
  const late = new Set<Promise<void>>();
  const stop = new AbortController();

  async function complete(memory: Memory, running: Promise<ContentEmbedding>) {
    try {
      const embedding = await untilAborted(running, stop.signal);
      const contentHash = await sha256(memory.content);
      const { id, domain } = memory;
      const write = lastWrite.then(() =>
        repository.completeEmbedding(domain, { id, contentHash }, embedding),
      );
      lastWrite = write.catch(() => {});
      await write;
    } catch (error) {
      const { domain, id } = memory;
      logger.debug(
        { err: error, domain, id },
        "could not complete a late embedding; leaving it to the worker",
      );
      await repository.releaseEmbedding(domain, id).catch(() => {});
      onPending(domain);
    }
  }

  return {
    async start(content, source, domain, call) {
      if (source === "background") return {};
      if (source !== "inline") return { supplied: source, done: inOneChunk(content, source) };
      const running = contents.of(domain).embedContent(content);
      running.catch(() => {});
      try {
        const done = await within(running, embedBudget(dependencies.embedBudgetMs, call.remainingMs));
        return done === undefined ? { running } : { done };
      } catch (error) {
        if (!(error instanceof EmbedError)) throw error;
        return {};
      }
    },

    async refreshDomain(domain, embeddingVersion, signal) {
      if (embeddingVersion === undefined || embeddingVersion === domain.embeddingVersion) return domain;
      return (await repository.readDomain(domain.name, signal)) ?? domain;
    },

    async assertAcceptable(name, supplied, path, signal) {
      if ((await repository.findDomain(name, signal)) !== undefined) return;
      const current = await contents.current();
      assertCompatible(
        supplied,
        { embeddingVersion: current?.version, dimensions: current?.dimensions },
        path,
      );
    },

    toDraft(content, { done, running, supplied }, domain) {
      if (supplied !== undefined) assertCompatible(supplied, domain, "embedding");
      return {
        chunkCount: done?.chunks.length ?? contents.of(domain).countChunks(content),
        // Searches would never find an embedding of another version. A server with the domain's model embeds the
        // memory.
        embedding: done?.version === domain.embeddingVersion ? done : undefined,
        leaseMs: running === undefined ? 0 : LATE_EMBEDDING_LEASE_MS,
      };
    },

    completeLater(memory, { running }) {
      if (memory.embedding.state !== "pending") return;
      if (running === undefined) onPending(memory.domain);
      else {
        const completed = complete(memory, running);
        late.add(completed);
        void completed.finally(() => late.delete(completed));
      }
    },

    async close() {
      stop.abort();
      await Promise.all(late);
    },
  };
}

/** Returns a caller-supplied embedding as one chunk of the whole content, whatever its length. */
function inOneChunk(content: string, { vector, version }: CallerEmbedding): ContentEmbedding {
  let end = 0;
  for (const _ of content) end++;
  return { version, chunks: [{ start: 0, end, vector }] };
}

async function sha256(text: string): Promise<Uint8Array> {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text)));
}
