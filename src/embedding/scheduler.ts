import { type EmbeddingRole, EmbedError } from "../memory/model/embedder.ts";
import { createBatchQueue } from "./batch-queue.ts";

export interface SchedulerOptions {
  /**
   * Embeds one batch of distinct texts of one role, in order. The scheduler splits a batch that fails as `too-long` or
   * `rejected` in half until the faulty text is alone. Any other failure goes to all callers of the batch.
   */
  readonly run: (texts: readonly string[], role: EmbeddingRole) => Promise<readonly Float32Array[]>;
  /** Defaults to 32, which stays far below the time-outs even on a slow CPU. */
  readonly maxBatchTexts?: number;
  /** Maximum length of a batch in UTF-16 code units. A longer text forms a batch of its own. Defaults to 16,000. */
  readonly maxBatchLength?: number;
  /** Maximum number of concurrent batches. Defaults to 1, since Ollama processes one text of a model at a time anyway. */
  readonly concurrency?: number;
  /** Maximum number of waiting texts for each role; further texts are rejected. Defaults to 4,096. */
  readonly maxWaitingTexts?: number;
}

/** Combines the texts of many callers into batches. Queries go before documents. */
export interface EmbedScheduler {
  /**
   * Embeds texts, which are prepared and not empty.
   *
   * @throws EmbedError; the signal's reason as soon as it aborts. Texts that were not sent are then dropped, while a running
   * batch continues.
   */
  submit(texts: readonly string[], role: EmbeddingRole, signal?: AbortSignal): Promise<Float32Array[]>;
  /** Number of texts that wait for a batch. */
  readonly waiting: number;
  /** Fails all present and future callers with `error`. */
  close(error: EmbedError): void;
}

/** One call of `submit`. */
interface Job {
  readonly results: Float32Array[];
  missing: number;
  settled: boolean;
  readonly resolve: (results: Float32Array[]) => void;
  readonly reject: (error: unknown) => void;
}

interface Entry {
  readonly job: Job;
  readonly index: number;
  readonly text: string;
}

export function createScheduler(options: SchedulerOptions): EmbedScheduler {
  const {
    run,
    maxBatchTexts = 32,
    maxBatchLength = 16_000,
    concurrency = 1,
    maxWaitingTexts = 4_096,
  } = options;
  const queue = createBatchQueue<Entry>({ maxBatchTexts, maxBatchLength });
  const unsettled = new Set<Job>();
  let running = 0;
  let woken = false;
  let closed: EmbedError | undefined;

  function settle(job: Job, finish: () => void) {
    if (job.settled) return;
    job.settled = true;
    unsettled.delete(job);
    finish();
  }

  /** Ends a job early and drops its waiting texts. */
  function fail(job: Job, error: unknown) {
    settle(job, () => {
      queue.drop((entry) => entry.job === job);
      job.reject(error);
    });
  }

  function start() {
    woken = false;
    while (running < concurrency) {
      const next = queue.take();
      if (next === undefined) return;
      running += 1;
      runBatch(next.batch, next.role).finally(() => {
        running -= 1;
        start();
      });
    }
  }

  /** Never rejects. */
  async function runBatch(batch: readonly Entry[], role: EmbeddingRole): Promise<void> {
    const entries = batch.filter((entry) => !entry.job.settled);
    const texts = [...new Set(entries.map((entry) => entry.text))];
    if (texts.length === 0) return;
    try {
      const embeddings = await run(texts, role);
      const byText = new Map(texts.map((text, i) => [text, embeddings[i]]));
      for (const { job, index, text } of entries) {
        const embedding = byText.get(text);
        if (embedding === undefined) fail(job, new EmbedError("unavailable", "an embedding is missing"));
        else deliver(job, index, embedding);
      }
    } catch (error) {
      const separable =
        error instanceof EmbedError && (error.kind === "too-long" || error.kind === "rejected");
      if (!separable || texts.length === 1) {
        for (const { job } of entries) fail(job, error);
        return;
      }
      const half = new Set(texts.slice(0, Math.ceil(texts.length / 2)));
      await runBatch(
        entries.filter((entry) => half.has(entry.text)),
        role,
      );
      await runBatch(
        entries.filter((entry) => !half.has(entry.text)),
        role,
      );
    }
  }

  function deliver(job: Job, index: number, embedding: Float32Array) {
    // Each caller gets a copy, since callers that sent equal texts must not share memory.
    job.results[index] = embedding.slice();
    job.missing -= 1;
    if (job.missing === 0) settle(job, () => job.resolve(job.results));
  }

  return {
    get waiting() {
      return queue.waiting("query") + queue.waiting("document");
    },
    async submit(texts, role, signal) {
      signal?.throwIfAborted();
      if (closed !== undefined) throw closed;
      if (texts.length === 0) return [];
      const waiting = queue.waiting(role);
      // A caller with more texts than the bound is served when no other text waits.
      if (waiting > 0 && waiting + texts.length > maxWaitingTexts) {
        throw new EmbedError("unavailable", `the embedder's queue is full (${waiting} texts waiting)`);
      }
      const { promise, resolve, reject } = Promise.withResolvers<Float32Array[]>();
      const job: Job = {
        results: new Array(texts.length),
        missing: texts.length,
        settled: false,
        resolve,
        reject,
      };
      unsettled.add(job);
      for (const [index, text] of texts.entries()) queue.push(role, { job, index, text });
      if (!woken) {
        woken = true;
        // Calls of the same tick share a batch.
        queueMicrotask(start);
      }
      const leave = () => fail(job, signal?.reason);
      signal?.addEventListener("abort", leave, { once: true });
      try {
        return await promise;
      } finally {
        signal?.removeEventListener("abort", leave);
      }
    },
    close(error) {
      closed = error;
      for (const job of [...unsettled]) fail(job, error);
    },
  };
}
