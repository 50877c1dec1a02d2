import { setTimeout as sleep } from "node:timers/promises";
import type { Logger } from "../../util/logger.ts";
import { type DomainRecord, StaleDomainError } from "../model/domain.ts";
import type { Embedders } from "../model/embedder.ts";
import { EmbedError } from "../model/embedder.ts";
import type { PendingMemory } from "../model/embedding-queue.ts";
import { isAbort, ServiceError } from "../model/errors.ts";
import type { Repository } from "../model/repository.ts";
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

/** A domain to look for work in. */
interface Turn {
  readonly own: ContentEmbedder;
  readonly domain: string;
  readonly version: number;
}

/** Embeds what is pending, in the background, on as many servers as there are. */
export function startEmbeddingWorker(dependencies: {
  readonly repository: Repository;
  readonly contents: ContentEmbedder;
  /** Available: worth looking for work. */
  readonly embedder: Pick<Embedders, "status" | "onAvailable">;
  readonly logger: Logger;
  /** Told which domains there are, whenever they are looked at. */
  readonly onDomains?: (domains: readonly DomainRecord[]) => void;
  /** How long other workers leave alone what this one has taken and not prolonged. Default 30,000. */
  readonly leaseMs?: number;
}): EmbeddingWorker {
  const { repository, contents, embedder, logger, onDomains, leaseMs = LEASE_MS } = dependencies;
  const stop = new AbortController();
  const due = new Set<string>();
  let sweepDue = true;
  let sweepMs = SWEEP_MS;
  /** The version this server has moved each domain to. Once each: two servers with two models would fight. */
  const aligned = new Map<string, number>();
  /** Domains that something was wrong with, and until when they are left alone. */
  const resting = new Map<string, number>();
  let wake = () => {};

  const unsubscribe = embedder.onAvailable(() => {
    sweepDue = true;
    resting.clear();
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

  /**
   * Gives each domain that is due one turn: of a large one that is embedded anew the others do not wait for the end, nor do
   * they for one that fails.
   */
  async function embedDue(): Promise<void> {
    const sweep = sweepDue;
    sweepDue = false;
    // Taken now: who calls from here on waits for the next round.
    const called = new Set(due);
    due.clear();
    const domains = await repository.listDomains(stop.signal);
    onDomains?.(domains);
    // All are moved first: what is stored into a domain meanwhile would be found by its words only.
    const turns: Turn[] = [];
    for (const domain of domains) {
      await attempt(domain.name, async () => {
        const turn = await turnOf(domain, sweep || called.has(domain.name));
        if (turn !== undefined) turns.push(turn);
      });
    }
    let lookedMs = 0;
    for (const turn of turns) {
      await attempt(turn.domain, async () => {
        const startedAt = performance.now();
        if (await embedSome(turn)) due.add(turn.domain);
        else lookedMs += performance.now() - startedAt;
        resting.delete(turn.domain);
      });
    }
    if (sweep) sweepMs = Math.round(Math.max(SWEEP_MS, Math.min(LEASE_MS, SWEEP_REST * lookedMs)));
  }

  /** Lets a domain that fails rest, unless all would. */
  async function attempt(domain: string, work: () => Promise<void>): Promise<void> {
    if ((resting.get(domain) ?? 0) > performance.now()) return;
    try {
      await work();
    } catch (error) {
      if (isAbort(error)) throw error;
      if (error instanceof ServiceError && error.reason === "DOMAIN_NOT_FOUND") return;
      if (error instanceof ServiceError && error.reason === "DATABASE_UNAVAILABLE") throw error;
      if (!resting.has(domain))
        logger.warn({ err: error, domain }, "embedding worker leaves a domain alone for a while");
      resting.set(domain, performance.now() + RETRY_MS);
    }
  }

  /** Moves the domain to the version of now if need be; undefined if there is nothing to look for in it. */
  async function turnOf(domain: DomainRecord, called: boolean): Promise<Turn | undefined> {
    const own = contents.of(domain);
    const version = (await own.current())?.version;
    // It tells when it is there, which is a reason to look at all domains.
    if (version === undefined || !own.available()) return undefined;
    const moves = aligned.get(domain.name) !== version;
    if (!moves && !called) return undefined;
    const { embeddingVersion } =
      moves || domain.embeddingVersion === undefined ? await own.align(domain) : domain;
    aligned.set(domain.name, version);
    return embeddingVersion === version ? { own, domain: domain.name, version } : undefined;
  }

  /** Returns whether there was something to do. */
  async function embedSome({ own, domain, version }: Turn): Promise<boolean> {
    stop.signal.throwIfAborted();
    // Embeddings of another model would be refused here for ever: the domain has to move first.
    if ((await own.current())?.version !== version) {
      sweepDue = true;
      return true;
    }
    const memories = await repository.claimPending(domain, version, CLAIM, leaseMs);
    if (memories.length === 0) return false;
    const left = await embedClaimed(own, domain, memories);
    if (left.length > 0) {
      // Of a server that stops, at once: others are waiting for work.
      await repository.postponeEmbedding(domain, left, stop.signal.aborted ? 0 : RETRY_MS, false);
    }
    logger.debug({ domain, memories: memories.length - left.length }, "embedded pending memories");
    return true;
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
      const written = await repository.completeEmbedding(domain, memory, embedding);
      // Changed meanwhile: what it is now must not wait for the end of a lease that was prolonged for what it was.
      if (!written) await repository.postponeEmbedding(domain, [memory.id], 0, false);
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
