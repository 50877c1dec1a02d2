import { setTimeout as sleep } from "node:timers/promises";
import type { Logger } from "../../util/logger.ts";
import { type DomainRecord, StaleDomainError } from "../model/domain.ts";
import type { DomainStore } from "../model/domain-store.ts";
import type { Embedders } from "../model/embedder.ts";
import { EmbedError } from "../model/embedder.ts";
import type { EmbeddingQueue, PendingMemory } from "../model/embedding-queue.ts";
import { isAbort, ServiceError } from "../model/errors.ts";
import type { ContentEmbedder } from "./content-embedder.ts";

/** Memories leased at once: two full batches of the scheduler. */
const LEASE_SIZE = 64;
/** Duration of a lease. A running worker extends it; the memories of a worker that dies become due after it. */
const LEASE_MS = 30_000;
/** Minimum interval between sweeps of all domains, which find work that other servers have left. */
const SWEEP_MS = 2_000;
/** The interval is at least this many times the duration of the last sweep, which is long for thousands of domains. */
const SWEEP_INTERVAL_FACTOR = 50;
/** Pause after an error of the database. */
const RETRY_MS = 2_000;
/** A memory is marked as failed after this many attempts that failed because of it. */
const MAX_ATTEMPTS = 5;
/** Pause before the next attempt of a memory, multiplied by its attempts. */
const BACKOFF_MS = 5_000;

export interface EmbeddingWorker {
  /** Checks this domain now instead of in the next sweep. */
  notify(domain: string): void;
  close(): Promise<void>;
}

/** A domain to embed pending memories of. */
interface Turn {
  readonly embedder: ContentEmbedder;
  readonly domain: string;
  readonly version: number;
}

/** Starts embedding pending memories in the background. Any number of servers share the work. */
export function startEmbeddingWorker(dependencies: {
  readonly repository: DomainStore & EmbeddingQueue;
  readonly contents: ContentEmbedder;
  /** The worker pauses while no embedder is available. */
  readonly embedders: Pick<Embedders, "status" | "onAvailable">;
  readonly logger: Logger;
  /** Called with all domains whenever the worker has listed them. */
  readonly onDomains?: (domains: readonly DomainRecord[]) => void;
  /** Duration of a lease. Defaults to 30,000. */
  readonly leaseMs?: number;
}): EmbeddingWorker {
  const { repository, contents, embedders, logger, onDomains, leaseMs = LEASE_MS } = dependencies;
  const stop = new AbortController();
  const due = new Set<string>();
  let sweepDue = true;
  let sweepMs = SWEEP_MS;
  /**
   * The version to which this server has switched each domain. Once only, or two servers with two models would
   * alternate.
   */
  const aligned = new Map<string, number>();
  /** Domains that have failed, with the time until which they are skipped. */
  const skippedUntil = new Map<string, number>();
  let wake = () => {};

  const unsubscribe = embedders.onAvailable(() => {
    sweepDue = true;
    skippedUntil.clear();
    wake();
  });
  stop.signal.addEventListener("abort", () => wake(), { once: true });
  const done = run();

  async function run(): Promise<void> {
    let pausing = false;
    while (!stop.signal.aborted) {
      try {
        if (embedders.status().available) await embedDue();
        pausing = false;
      } catch (error) {
        if (stop.signal.aborted) return;
        // Logged once, because it happens every two seconds while the database is unavailable.
        if (!pausing) logger.warn({ err: error }, "cannot embed pending memories; retrying every 2 s");
        pausing = true;
        sweepDue = true;
        await sleep(RETRY_MS, undefined, { signal: stop.signal }).catch(() => {});
        continue;
      }
      await waitForWork();
    }
  }

  async function waitForWork(): Promise<void> {
    if (stop.signal.aborted || (embedders.status().available && (due.size > 0 || sweepDue))) return;
    const timer = AbortSignal.timeout(sweepMs);
    await new Promise<void>((resolve) => {
      wake = resolve;
      timer.addEventListener("abort", () => resolve(), { once: true });
    });
    if (timer.aborted) sweepDue = true;
  }

  /**
   * Gives each domain that is due one turn, so that no domain waits until a large one is completely embedded, or for
   * one that fails.
   */
  async function embedDue(): Promise<void> {
    const sweep = sweepDue;
    sweepDue = false;
    // Domains that are notified from here on wait for the next round.
    const notified = new Set(due);
    due.clear();
    const domains = await repository.listDomains(stop.signal);
    onDomains?.(domains);
    // Switches all domains first. Semantic search would not find a memory stored in a domain that is not switched yet.
    const turns: Turn[] = [];
    for (const domain of domains) {
      await attempt(domain.name, async () => {
        const turn = await turnOf(domain, sweep || notified.has(domain.name));
        if (turn !== undefined) turns.push(turn);
      });
    }
    let sweepDurationMs = 0;
    for (const turn of turns) {
      await attempt(turn.domain, async () => {
        const startedAt = performance.now();
        if (await embedSome(turn)) due.add(turn.domain);
        else sweepDurationMs += performance.now() - startedAt;
        skippedUntil.delete(turn.domain);
      });
    }
    if (sweep)
      sweepMs = Math.round(Math.max(SWEEP_MS, Math.min(LEASE_MS, SWEEP_INTERVAL_FACTOR * sweepDurationMs)));
  }

  /** Skips a domain that fails for a while, unless the failure concerns all domains. */
  async function attempt(domain: string, work: () => Promise<void>): Promise<void> {
    if ((skippedUntil.get(domain) ?? 0) > performance.now()) return;
    try {
      await work();
    } catch (error) {
      if (isAbort(error)) throw error;
      if (error instanceof ServiceError && error.reason === "DOMAIN_NOT_FOUND") return;
      if (error instanceof ServiceError && error.reason === "DATABASE_UNAVAILABLE") throw error;
      if (!skippedUntil.has(domain))
        logger.warn({ err: error, domain }, "cannot embed the memories of a domain; skipping it for 2 s");
      skippedUntil.set(domain, performance.now() + RETRY_MS);
    }
  }

  /** Switches the domain to the current version if necessary. Returns undefined if the domain needs no turn. */
  async function turnOf(domain: DomainRecord, isDue: boolean): Promise<Turn | undefined> {
    const embedder = contents.of(domain);
    const version = (await embedder.current())?.version;
    // A model that becomes available causes a sweep.
    if (version === undefined || !embedder.available()) return undefined;
    const switches = aligned.get(domain.name) !== version;
    if (!switches && !isDue) return undefined;
    const { embeddingVersion } =
      switches || domain.embeddingVersion === undefined ? await embedder.align(domain) : domain;
    aligned.set(domain.name, version);
    return embeddingVersion === version ? { embedder, domain: domain.name, version } : undefined;
  }

  /** Returns whether the domain had pending memories. */
  async function embedSome({ embedder, domain, version }: Turn): Promise<boolean> {
    stop.signal.throwIfAborted();
    // The domain would refuse embeddings of another model, so it has to be switched first.
    if ((await embedder.current())?.version !== version) {
      sweepDue = true;
      return true;
    }
    const memories = await repository.claimPending(domain, version, LEASE_SIZE, leaseMs);
    if (memories.length === 0) return false;
    const left = await embedLeased(embedder, domain, memories);
    if (left.length > 0) {
      // A server that stops releases them at once, for other servers.
      await repository.postponeEmbedding(domain, left, stop.signal.aborted ? 0 : RETRY_MS, false);
    }
    logger.debug({ domain, memories: memories.length - left.length }, "embedded pending memories");
    return true;
  }

  /** Returns the ids of the memories that could not be embedded because the embedder was unavailable. */
  async function embedLeased(
    embedder: ContentEmbedder,
    domain: string,
    memories: readonly PendingMemory[],
  ): Promise<string[]> {
    const waiting = new Set(memories.map((memory) => memory.id));
    let extended: Promise<void> | undefined;
    const timer = setInterval(() => {
      extended = repository
        .postponeEmbedding(domain, [...waiting], leaseMs, true)
        .catch((error: unknown) => logger.debug({ err: error, domain }, "could not extend a lease"));
    }, leaseMs / 3);
    try {
      const left = await Promise.all(
        memories.map(async (memory) => {
          const done = await embedOne(embedder, domain, memory);
          waiting.delete(memory.id);
          return done ? [] : [memory.id];
        }),
      );
      return left.flat();
    } finally {
      clearInterval(timer);
      // The extension must not follow the release of the same memories.
      await extended;
    }
  }

  /** Returns false if the embedder was unavailable. The memory stays pending. */
  async function embedOne(
    embedder: ContentEmbedder,
    domain: string,
    memory: PendingMemory,
  ): Promise<boolean> {
    try {
      const embedding = await embedder.embedContent(memory.content, stop.signal);
      const written = await repository.completeEmbedding(domain, memory, embedding);
      // The memory was changed in the meantime. Its new content must not wait for the end of the extended lease.
      if (!written) await repository.postponeEmbedding(domain, [memory.id], 0, false);
    } catch (error) {
      if (isAbort(error)) return false;
      // The domain was recreated or switched by another server. If the memory still exists, it becomes due again soon.
      if (error instanceof StaleDomainError) return false;
      if (!(error instanceof EmbedError)) throw error;
      if (error.kind === "unavailable" || error.kind === "model-missing") return false;
      // A memory that contains only white space can never be embedded.
      if (memory.attempts < MAX_ATTEMPTS && /\S/u.test(memory.content)) {
        await repository.postponeEmbedding(domain, [memory.id], BACKOFF_MS * memory.attempts, true);
      } else {
        await repository.failEmbedding(domain, memory, error.message);
        logger.warn(
          { domain, id: memory.id, reason: error.message },
          "memory cannot be embedded; marked as failed",
        );
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
