import type { Logger } from "../../util/logger.ts";
import { untilAborted, within } from "../../util/wait.ts";
import type { CallContext } from "../model/call-context.ts";
import { assertCompatible, type CallerEmbedding } from "../model/caller-embedding.ts";
import type { DomainRecord } from "../model/domain.ts";
import type { ContentEmbedding, MemoryDraft } from "../model/draft.ts";
import type { ModelChoice } from "../model/embedder.ts";
import { EmbedError } from "../model/embedder.ts";
import type { Memory } from "../model/memory.ts";
import type { Repository } from "../model/repository.ts";
import { type ContentEmbedder, embedBudget } from "./content-embedder.ts";

/** inline: wait for the embedding within the budget; background: store as pending at once. */
export type EmbeddingMode = "inline" | "background";

/** What has become of an embedding by the end of the budget: `done`, still `running`, or neither. */
export interface EmbeddingAttempt {
  readonly done?: ContentEmbedding;
  readonly running?: Promise<ContentEmbedding>;
  /** What is done is the caller's own: it is stored, or the call refused. */
  readonly own?: CallerEmbedding;
}

/**
 * Embeds what callers write. The embedder is never on the way of durability: after its budget the text is committed as
 * pending, while the embedding goes on and is written when it comes.
 */
export interface TimelyEmbedder {
  /** Never fails for the embedder's sake. With an embedding of the caller's own there is nothing to do. */
  attempt(
    content: string,
    how: EmbeddingMode | CallerEmbedding,
    domain: ModelChoice,
    call: CallContext,
  ): Promise<EmbeddingAttempt>;
  /** The domain as it is now, if what is known of it does not fit the embedding: that may be seconds old. */
  fit(domain: DomainRecord, attempt: EmbeddingAttempt, signal: AbortSignal): Promise<DomainRecord>;
  /**
   * Whether a domain that may be missing would use the caller's own embedding: one that is refused makes no domain.
   * `path` is that of its field.
   *
   * @throws ServiceError INVALID_ARGUMENT
   */
  assertCompatibleIn(domain: string, own: CallerEmbedding, path: string, signal: AbortSignal): Promise<void>;
  /**
   * What a draft of this content says of its embedding.
   *
   * @throws ServiceError INVALID_ARGUMENT if the embedding is the caller's own and not one that the domain uses
   */
  describe(
    content: string,
    attempt: EmbeddingAttempt,
    domain: DomainRecord,
  ): Pick<MemoryDraft, "chunkCount" | "embedding" | "leaseMs">;
  /** To be called once the memory is committed: sees to it that a pending one is embedded. */
  follow(memory: Memory, attempt: EmbeddingAttempt): void;
  /** Waits no longer for embeddings on the way: makes their memories due, for the worker of any server. */
  close(): Promise<void>;
}

/** How long the writer of a pending memory keeps it to itself while its embedding is on the way. */
export const LATE_EMBEDDING_LEASE_MS = 30_000;

export function createTimelyEmbedder(dependencies: {
  readonly repository: Repository;
  readonly contents: ContentEmbedder;
  readonly embedBudgetMs: number;
  /** Told of a domain that has a new pending memory nobody is embedding. */
  readonly onPending: (domain: string) => void;
  readonly logger: Logger;
}): TimelyEmbedder {
  const { repository, contents, logger, onPending } = dependencies;

  /** One after the other: those of a large batch would take every connection. */
  let lastWrite: Promise<unknown> = Promise.resolve();
  const late = new Set<Promise<void>>();
  const stop = new AbortController();

  async function finishLater(memory: Memory, running: Promise<ContentEmbedding>) {
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
      logger.debug({ err: error, domain: memory.domain, id: memory.id }, "late embedding was lost");
      await repository.releaseEmbedding(memory.domain, memory.id).catch(() => {});
      onPending(memory.domain);
    }
  }

  return {
    async attempt(content, how, domain, call) {
      if (how === "background") return {};
      if (how !== "inline") return { own: how, done: wholeContent(content, how) };
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

    async fit(domain, { done }, signal) {
      if (done === undefined || done.version === domain.embeddingVersion) return domain;
      return (await repository.readDomain(domain.name, signal)) ?? domain;
    },

    async assertCompatibleIn(name, own, path, signal) {
      if ((await repository.findDomain(name, signal)) !== undefined) return;
      const now = await contents.current();
      assertCompatible(own, { embeddingVersion: now?.version, dimensions: now?.dimensions }, path);
    },

    describe(content, { done, running, own }, domain) {
      if (own !== undefined) assertCompatible(own, domain, "embedding");
      return {
        chunkCount: done?.chunks.length ?? contents.of(domain).countChunks(content),
        // Vectors of a version the domain does not search in would never be found: its own server embeds it.
        embedding: done?.version === domain.embeddingVersion ? done : undefined,
        leaseMs: running === undefined ? 0 : LATE_EMBEDDING_LEASE_MS,
      };
    },

    follow(memory, { running }) {
      if (memory.embedding.state !== "pending") return;
      if (running === undefined) onPending(memory.domain);
      else {
        const finished = finishLater(memory, running);
        late.add(finished);
        void finished.finally(() => late.delete(finished));
      }
    },

    async close() {
      stop.abort();
      await Promise.all(late);
    },
  };
}

/** The content in one chunk, however long it is. */
function wholeContent(content: string, { vector, version }: CallerEmbedding): ContentEmbedding {
  let end = 0;
  for (const _ of content) end++;
  return { version, chunks: [{ start: 0, end, vector }] };
}

async function sha256(text: string): Promise<Uint8Array> {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text)));
}
