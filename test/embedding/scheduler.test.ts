import { describe, expect, it } from "vitest";
import { createScheduler, type SchedulerOptions } from "../../src/embedding/scheduler.ts";
import { type EmbeddingRole, EmbedError } from "../../src/memory/model/embedder.ts";
import { until } from "./with-fake.ts";

interface Call {
  readonly texts: readonly string[];
  readonly role: EmbeddingRole;
  readonly answer: () => void;
  readonly fail: (error: unknown) => void;
}

const embeddingOf = (text: string) => Float32Array.of(text.length, text.charCodeAt(0));

/** A scheduler whose batches the test answers. */
function start(options: Partial<SchedulerOptions> = {}) {
  const calls: Call[] = [];
  const scheduler = createScheduler({
    run: (texts, role) =>
      new Promise((resolve, reject) => {
        calls.push({ texts, role, answer: () => resolve(texts.map(embeddingOf)), fail: reject });
      }),
    ...options,
  });
  const call = async (index: number): Promise<Call> => {
    await until(() => calls.length > index);
    const found = calls[index];
    if (found === undefined) throw new Error("unreachable");
    return found;
  };
  return { scheduler, calls, call };
}

/** A scheduler whose batches succeed at once, or fail if they contain a bad text. */
function startWith(isBad: (text: string) => boolean, kind: EmbedError["kind"], options = {}) {
  const batches: (readonly string[])[] = [];
  const scheduler = createScheduler({
    run: async (texts) => {
      batches.push(texts);
      if (texts.some(isBad)) throw new EmbedError(kind, "bad");
      return texts.map(embeddingOf);
    },
    ...options,
  });
  return { scheduler, batches };
}

describe("scheduler", () => {
  it("batches and deduplicates texts of concurrent callers, and returns each caller its own embeddings", async () => {
    const { scheduler, calls, call } = start();
    const first = scheduler.submit(["a", "bb"], "document");
    const second = scheduler.submit(["bb", "ccc"], "document");
    (await call(0)).answer();
    expect(await first).toEqual([embeddingOf("a"), embeddingOf("bb")]);
    expect(await second).toEqual([embeddingOf("bb"), embeddingOf("ccc")]);
    expect(calls.map(({ texts }) => texts)).toEqual([["a", "bb", "ccc"]]);
    expect((await first)[1]).not.toBe((await second)[0]);
  });

  it("keeps batches within their bounds, and sends an overlong text alone", async () => {
    const { scheduler, batches } = startWith(() => false, "unavailable", {
      maxBatchTexts: 2,
      maxBatchLength: 4,
    });
    await scheduler.submit(["a", "b", "c", "dd", "eee", "ffffff", "g"], "document");
    expect(batches).toEqual([["a", "b"], ["c", "dd"], ["eee"], ["ffffff"], ["g"]]);
  });

  it("sends queries before documents, in separate batches", async () => {
    const { scheduler, calls, call } = start({ maxBatchTexts: 1 });
    const documents = scheduler.submit(["d1", "d2"], "document");
    await call(0);
    const query = scheduler.submit(["q"], "query");
    (await call(0)).answer();
    (await call(1)).answer();
    await query;
    (await call(2)).answer();
    await documents;
    expect(calls.map(({ texts, role }) => [role, ...texts])).toEqual([
      ["document", "d1"],
      ["query", "q"],
      ["document", "d2"],
    ]);
  });

  it("sends a batch of documents after sixteen batches of queries", async () => {
    const { scheduler, calls, call } = start({ maxBatchTexts: 1 });
    const queries = scheduler.submit(
      Array.from({ length: 20 }, (_, i) => `q${i}`),
      "query",
    );
    const document = scheduler.submit(["d"], "document");
    for (let i = 0; i < 21; i++) (await call(i)).answer();
    await Promise.all([queries, document]);
    expect(calls.findIndex(({ role }) => role === "document")).toBe(16);
  });

  it.each([1, 2])("runs %i batches concurrently", async (concurrency) => {
    const { scheduler, calls, call } = start({ maxBatchTexts: 1, concurrency });
    const all = scheduler.submit(["a", "b", "c"], "document");
    await call(concurrency - 1);
    expect(calls).toHaveLength(concurrency);
    expect(scheduler.waiting).toBe(3 - concurrency);
    for (let i = 0; i < 3; i++) (await call(i)).answer();
    await all;
  });

  it("rejects a caller that leaves at once, drops its waiting texts, and continues the batch for others", async () => {
    const { scheduler, calls, call } = start({ maxBatchTexts: 2 });
    const leaving = new AbortController();
    const left = scheduler.submit(["a", "x", "y"], "document", leaving.signal);
    const stays = scheduler.submit(["b"], "document");
    await call(0);
    leaving.abort(new Error("gone"));
    await expect(left).rejects.toThrow("gone");
    (await call(0)).answer();
    (await call(1)).answer();
    await stays;
    expect(calls.map(({ texts }) => texts)).toEqual([["a", "x"], ["b"]]);
  });

  it("serves a caller whose text is already being embedded for one that has left", async () => {
    const { scheduler, call } = start();
    const leaving = new AbortController();
    const left = scheduler.submit(["a"], "query", leaving.signal);
    const stays = scheduler.submit(["a"], "query");
    await call(0);
    leaving.abort(new Error("gone"));
    await expect(left).rejects.toThrow("gone");
    (await call(0)).answer();
    expect(await stays).toEqual([embeddingOf("a")]);
  });

  it.each(["too-long", "rejected"] as const)(
    "finds the culprit of a batch that fails as %s",
    async (kind) => {
      const { scheduler, batches } = startWith((text) => text === "bad", kind);
      const good = ["a", "b", "c", "d", "e", "f", "g"].map((text) => scheduler.submit([text], "document"));
      const bad = scheduler.submit(["bad"], "document");
      await expect(bad).rejects.toMatchObject({ kind });
      await Promise.all(good);
      expect(batches.length).toBeLessThanOrEqual(7);
    },
  );

  it("fails all callers of a batch that no text made fail, but not the next batch", async () => {
    const { scheduler, call } = start({ maxBatchTexts: 2 });
    const [a, b, c] = ["a", "b", "c"].map((text) => scheduler.submit([text], "document"));
    (await call(0)).fail(new EmbedError("unavailable", "away"));
    await expect(a).rejects.toMatchObject({ kind: "unavailable" });
    await expect(b).rejects.toMatchObject({ kind: "unavailable" });
    (await call(1)).answer();
    expect(await c).toHaveLength(1);
  });

  it("limits the number of waiting texts for each role separately", async () => {
    const { scheduler, call } = start({ maxWaitingTexts: 2, maxBatchTexts: 2 });
    const running = scheduler.submit(["a", "b"], "document");
    await call(0);
    const waiting = scheduler.submit(["c", "d"], "document");
    await expect(scheduler.submit(["e"], "document")).rejects.toMatchObject({ kind: "unavailable" });
    const query = scheduler.submit(["q"], "query");
    for (let i = 0; i < 3; i++) (await call(i)).answer();
    await Promise.all([running, waiting, query]);
  });

  it("fails all current and later callers when closed", async () => {
    const { scheduler, call } = start({ maxBatchTexts: 1 });
    const running = scheduler.submit(["a"], "document");
    const waiting = scheduler.submit(["b"], "document");
    await call(0);
    scheduler.close(new EmbedError("unavailable", "closed"));
    await expect(running).rejects.toThrow("closed");
    await expect(waiting).rejects.toThrow("closed");
    await expect(scheduler.submit(["c"], "document")).rejects.toThrow("closed");
  });

  it("returns no embeddings for no texts", async () => {
    expect(await start().scheduler.submit([], "query")).toEqual([]);
  });
});
