import { startBackgroundLoop } from "../../util/background-loop.ts";
import type { Logger } from "../../util/logger.ts";
import type { DomainRecord } from "../model/domain.ts";
import type { DomainStore } from "../model/domain-store.ts";
import type { Embedders } from "../model/embedder.ts";
import type { EmbeddingQueue } from "../model/embedding-queue.ts";
import { isAbort, ServiceError } from "../model/errors.ts";
import type { ContentEmbedder } from "./content-embedder.ts";
import { createEmbedPending, type EmbeddingTurn } from "./embed-pending.ts";

/** Duration of a lease. A running worker extends it; the memories of a worker that dies become due after it. */
const LEASE_MS = 30_000;
/** Minimum interval between sweeps of all domains, which find work that other servers have left. */
const SWEEP_MS = 2_000;
/** The interval is at least this many times the duration of the last sweep, which is long for thousands of domains. */
const SWEEP_INTERVAL_FACTOR = 50;
/** Pause after an error of the database. */
const RETRY_MS = 2_000;

export interface EmbeddingWorker {
  /** Checks this domain now instead of in the next sweep. */
  notify(domain: string): void;
  close(): Promise<void>;
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
  const nextTurn = createTurnPlanner(contents);
  const failing = createFailingDomains(logger);
  const due = new Set<string>();
  let sweepDue = true;
  let sweepMs = SWEEP_MS;
  let pausing = false;

  const loop = startBackgroundLoop({
    async run(signal, notified) {
      if (!notified) sweepDue = true;
      const available = embedders.status().available;
      if (available) await embedDue(signal);
      pausing = false;
      if (available && (due.size > 0 || sweepDue)) loop.notify();
    },
    onError(error) {
      // Logged once, because it happens every two seconds while the database is unavailable.
      if (!pausing) logger.warn({ err: error }, "cannot embed pending memories; retrying every 2 s");
      pausing = true;
      sweepDue = true;
    },
    pauseMs: () => sweepMs,
    retryMs: RETRY_MS,
  });
  const unsubscribe = embedders.onAvailable(() => {
    sweepDue = true;
    failing.clear();
    loop.notify();
  });

  /**
   * Gives each domain that is due one turn, so that no domain waits until a large one is completely embedded, or for
   * one that fails.
   */
  async function embedDue(signal: AbortSignal): Promise<void> {
    const embedPending = createEmbedPending({ repository, logger, leaseMs, signal });
    const sweep = sweepDue;
    sweepDue = false;
    // Domains that are notified from here on wait for the next round.
    const notified = new Set(due);
    due.clear();
    const domains = await repository.listDomains(signal);
    onDomains?.(domains);
    // Switches all domains first. Semantic search would not find a memory stored in a domain that is not switched yet.
    const turns: EmbeddingTurn[] = [];
    for (const domain of domains) {
      await failing.attempt(domain.name, async () => {
        const turn = await nextTurn(domain, sweep || notified.has(domain.name));
        if (turn !== undefined) turns.push(turn);
      });
    }
    let sweepDurationMs = 0;
    for (const turn of turns) {
      await failing.attempt(turn.domain, async () => {
        const startedAt = performance.now();
        const outcome = await embedPending(turn);
        if (outcome === "nothing-due") sweepDurationMs += performance.now() - startedAt;
        else due.add(turn.domain);
        if (outcome === "model-changed") sweepDue = true;
        failing.discard(turn.domain);
      });
    }
    if (sweep)
      sweepMs = Math.round(Math.max(SWEEP_MS, Math.min(LEASE_MS, SWEEP_INTERVAL_FACTOR * sweepDurationMs)));
  }

  return {
    notify(domain) {
      due.add(domain);
      loop.notify();
    },
    async close() {
      unsubscribe();
      await loop.close();
    },
  };
}

/** Switches domains to the current version, and decides which of them get a turn. */
function createTurnPlanner(contents: ContentEmbedder) {
  /**
   * The version to which this server has switched each domain. Once only, or two servers with two models would
   * alternate.
   */
  const switchedTo = new Map<string, number>();

  return async (domain: DomainRecord, isDue: boolean): Promise<EmbeddingTurn | undefined> => {
    const embedder = contents.of(domain);
    const version = (await embedder.current())?.version;
    // A model that becomes available causes a sweep.
    if (version === undefined || !embedder.available()) return undefined;
    const switches = switchedTo.get(domain.name) !== version;
    if (!switches && !isDue) return undefined;
    const { embeddingVersion } =
      switches || domain.embeddingVersion === undefined ? await embedder.align(domain) : domain;
    switchedTo.set(domain.name, version);
    return embeddingVersion === version ? { embedder, domain: domain.name, version } : undefined;
  };
}

/** Skips domains that have failed for a while, so that the others do not wait for them. */
function createFailingDomains(logger: Logger) {
  const skippedUntil = new Map<string, number>();
  return {
    /** Runs work in a domain unless that is skipped. Throws only errors that concern all domains. */
    async attempt(domain: string, work: () => Promise<void>): Promise<void> {
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
    },
    discard: (domain: string) => skippedUntil.delete(domain),
    clear: () => skippedUntil.clear(),
  };
}
