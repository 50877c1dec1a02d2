import { setTimeout as sleep } from "node:timers/promises";
import { EmbedError } from "../embedding/embedder.ts";
import type { Embedders } from "../embedding/embedders.ts";
import { isAbort, ServiceError } from "../errors.ts";
import type { Logger } from "../logger.ts";
import { type MemoryRepository, type PendingMemory, StaleDomainError } from "../storage/memory-repository.ts";
import type { ContentEmbedder } from "./content-embedder.ts";

/** Memories a worker takes at once: two full batches of the scheduler. */
const CLAIM = 64;
/** A worker that dies gives its memories back after this; one that lives prolongs it. */
const LEASE_MS = 30_000;
/** Least time between looks at all domains, for work that other servers left. */
const SWEEP_MS = 2_000;
/** A look at thousands of domains takes a while: the next one waits so many times longer than the last one took. */
const SWEEP_REST = 50;
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
  /** How long other workers leave alone what this one has taken and not prolonged. Default 30,000. */
  readonly leaseMs?: number;
}): EmbeddingWorker {
  const { repository, contents, embedder, logger, leaseMs = LEASE_MS } = dependencies;
  const stop = new AbortController();
  const due = new Set<string>();
  let sweepDue = true;
  let sweepMs = SWEEP_MS;
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
    let pausing = false;
    while (!stop.signal.aborted) {
      try {
        if (embedder.status().available) await embedDue();
        pausing = false;
      } catch (error) {
        if (stop.signal.aborted) return;
        // Once: while the database is away it happens every two seconds.
        if (!pausing) logger.warn({ err: error }, "embedding worker pauses");
        pausing = true;
        sweepDue = true;
        await sleep(RETRY_MS, undefined, { signal: stop.signal }).catch(() => {});
        continue;
      }
      await waitForWork();
    }
  }

  async function waitForWork(): Promise<void> {
    if (stop.signal.aborted || (embedder.status().available && (due.size > 0 || sweepDue))) return;
    const timer = AbortSignal.timeout(sweepMs);
    await new Promise<void>((resolve) => {
      wake = resolve;
      timer.addEventListener("abort", () => resolve(), { once: true });
    });
    if (timer.aborted) sweepDue = true;
  }

  async function embedDue(): Promise<void> {
    const sweep = sweepDue;
    sweepDue = false;
    let lookedMs = 0;
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
      // The first one of this round: a model that changes meanwhile leaves domains behind, for the next round to move.
      if (!moved.has(own)) moved.set(own, version);
      if (!sweep && !moves && !called.has(domain.name)) continue;
      try {
        const { embeddingVersion } =
          moves || domain.embeddingVersion === undefined ? await own.align(domain) : domain;
        const startedAt = performance.now();
        const found = embeddingVersion === version && (await embedDomain(own, domain.name, version));
        if (!found) lookedMs += performance.now() - startedAt;
      } catch (error) {
        const dropped = error instanceof ServiceError && error.reason === "DOMAIN_NOT_FOUND";
        if (!dropped) throw error;
      }
    }
    for (const [own, version] of moved) aligned.set(own, version);
    if (sweep) sweepMs = Math.round(Math.max(SWEEP_MS, Math.min(LEASE_MS, SWEEP_REST * lookedMs)));
  }

  /** Returns whether there was something to do. */
  async function embedDomain(own: ContentEmbedder, domain: string, version: number): Promise<boolean> {
    for (let found = false; ; found = true) {
      stop.signal.throwIfAborted();
      // Embeddings of another model would be refused here for ever: the domain has to move first.
      if ((await own.current())?.version !== version) {
        sweepDue = true;
        return true;
      }
      const memories = await repository.claimPending(domain, version, CLAIM, leaseMs);
      if (memories.length === 0) return found;
      const left = await embedClaimed(own, domain, memories);
      if (left.length > 0) {
        // Of a server that stops, at once: others are waiting for work.
        await repository.postponeEmbedding(domain, left, stop.signal.aborted ? 0 : RETRY_MS, false);
        if (!own.available()) return true;
        await sleep(RETRY_MS, undefined, { signal: stop.signal });
      }
      logger.debug({ domain, memories: memories.length - left.length }, "embedded pending memories");
    }
  }

  /** Returns the ids of those that the embedder was away for. */
  async function embedClaimed(
    own: ContentEmbedder,
    domain: string,
    memories: readonly PendingMemory[],
  ): Promise<string[]> {
    const waiting = new Set(memories.map((memory) => memory.id));
    let prolonged: Promise<void> | undefined;
    const timer = setInterval(() => {
      prolonged = repository
        .postponeEmbedding(domain, [...waiting], leaseMs, true)
        .catch((error: unknown) => logger.debug({ err: error, domain }, "a claim was not prolonged"));
    }, leaseMs / 3);
    try {
      const left = await Promise.all(
        memories.map(async (memory) => {
          const done = await embedOne(own, domain, memory);
          waiting.delete(memory.id);
          return done ? [] : [memory.id];
        }),
      );
      return left.flat();
    } finally {
      clearInterval(timer);
      // It must not overtake that they are given back.
      await prolonged;
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
      // Of nothing but white space there is nothing to try again.
      if (memory.attempts < MAX_ATTEMPTS && /\S/u.test(memory.content)) {
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
