import { setTimeout as sleep } from "node:timers/promises";
import { EmbedError } from "../embedding/embedder.ts";
import type { Embedders } from "../embedding/embedders.ts";
import { isAbort, ServiceError } from "../errors.ts";
import type { Logger } from "../logger.ts";
import { type MemoryRepository, type PendingMemory, StaleDomainError } from "../storage/memory-repository.ts";
import type { ContentEmbedder } from "./content-embedder.ts";

/** Memories a worker takes at once: two full batches of the scheduler. */
const CLAIM = 64;
/** Longer than the embedder's slowest answer; a worker that dies gives its memories back after this. */
const LEASE_MS = 120_000;
/** How often all domains are looked at, for work that other servers left. */
const SWEEP_MS = 15_000;
/** Pause after a failure of the database. */
const RETRY_MS = 2_000;
/** After so many tries of its own a memory is marked as failed. */
const MAX_ATTEMPTS = 5;
/** Pause before the next try of a memory whose embedding failed, times its attempts. */
const BACK_OFF_MS = 5_000;

export interface EmbeddingWorker {
  /** Looks at this domain soon. */
  notify(domain: string): void;
  close(): Promise<void>;
}

/** Embeds what is pending, in the background, on as many servers as there are. */
export function startEmbeddingWorker(dependencies: {
  readonly repository: MemoryRepository;
  readonly contents: ContentEmbedder;
  /** Available: worth looking for work. */
  readonly embedder: Pick<Embedders, "status" | "onAvailable">;
  readonly logger: Logger;
}): EmbeddingWorker {
  const { repository, contents, embedder, logger } = dependencies;
  const stop = new AbortController();
  const due = new Set<string>();
  let sweepDue = true;
  /** The versions this server has moved domains to. Once each: two servers with two models would fight. */
  const aligned = new Map<ContentEmbedder, number>();
  let wake = () => {};

  const unsubscribe = embedder.onAvailable(() => {
    sweepDue = true;
    wake();
  });
  stop.signal.addEventListener("abort", () => wake(), { once: true });
  const done = run();

  async function run(): Promise<void> {
    while (!stop.signal.aborted) {
      try {
        if (embedder.status().available) await embedDue();
      } catch (error) {
        if (stop.signal.aborted) return;
        logger.warn({ err: error }, "embedding worker pauses");
        sweepDue = true;
        await sleep(RETRY_MS, undefined, { signal: stop.signal }).catch(() => {});
        continue;
      }
      await waitForWork();
    }
  }

  async function waitForWork(): Promise<void> {
    if (stop.signal.aborted || (embedder.status().available && (due.size > 0 || sweepDue))) return;
    const timer = AbortSignal.timeout(SWEEP_MS);
    await new Promise<void>((resolve) => {
      wake = resolve;
      timer.addEventListener("abort", () => resolve(), { once: true });
    });
    if (timer.aborted) sweepDue = true;
  }

  async function embedDue(): Promise<void> {
    const sweep = sweepDue;
    sweepDue = false;
    // Taken now: who calls from here on waits for the next round.
    const called = new Set(due);
    due.clear();
    const moved = new Map<ContentEmbedder, number>();
    for (const domain of await repository.listDomains(stop.signal)) {
      const own = contents.of(domain);
      const version = (await own.current())?.version;
      // It tells when it is there, which is a reason to look at all domains.
      if (version === undefined || !own.available()) continue;
      const moves = aligned.get(own) !== version;
      moved.set(own, version);
      if (!sweep && !moves && !called.has(domain.name)) continue;
      try {
        const { embeddingVersion } =
          moves || domain.embeddingVersion === undefined ? await own.align(domain) : domain;
        if (embeddingVersion === version) await embedDomain(own, domain.name, version);
      } catch (error) {
        const dropped = error instanceof ServiceError && error.reason === "DOMAIN_NOT_FOUND";
        if (!dropped) throw error;
      }
    }
    for (const [own, version] of moved) aligned.set(own, version);
  }

  async function embedDomain(own: ContentEmbedder, domain: string, version: number): Promise<void> {
    for (;;) {
      stop.signal.throwIfAborted();
      const memories = await repository.claimPending(domain, version, CLAIM, LEASE_MS);
      if (memories.length === 0) return;
      const available = await Promise.all(memories.map((memory) => embedOne(own, domain, memory)));
      const left = memories.filter((_, index) => !available[index]);
      if (left.length > 0) {
        const ids = left.map((memory) => memory.id);
        await repository.postponeEmbedding(domain, ids, RETRY_MS, false);
        if (!own.available()) return;
        await sleep(RETRY_MS, undefined, { signal: stop.signal });
      }
      logger.debug({ domain, memories: memories.length - left.length }, "embedded pending memories");
    }
  }

  /** Returns false if the embedder was away: the memory stays as it is. */
  async function embedOne(own: ContentEmbedder, domain: string, memory: PendingMemory): Promise<boolean> {
    try {
      const embedding = await own.embedContent(memory.content, stop.signal);
      await repository.completeEmbedding(domain, memory, embedding);
    } catch (error) {
      if (isAbort(error)) return false;
      // Made again meanwhile, or moved by another server: the memory, if it is there, is due again soon.
      if (error instanceof StaleDomainError) return false;
      if (!(error instanceof EmbedError)) throw error;
      if (error.kind === "unavailable" || error.kind === "model-missing") return false;
      if (memory.attempts < MAX_ATTEMPTS) {
        await repository.postponeEmbedding(domain, [memory.id], BACK_OFF_MS * memory.attempts, true);
      } else {
        await repository.failEmbedding(domain, memory, error.message);
        logger.warn({ domain, id: memory.id, reason: error.message }, "memory cannot be embedded");
      }
    }
    return true;
  }

  return {
    notify(domain) {
      due.add(domain);
      wake();
    },
    async close() {
      unsubscribe();
      stop.abort();
      await done;
    },
  };
}
