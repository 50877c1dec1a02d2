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

/** A scheduler whose batches wait for the test. */
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

/** A scheduler whose batches are answered at once, or fail if they contain a bad text. */
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
  it("joins the texts of callers of one moment, each text once, and gives each caller its own", async () => {
    const { scheduler, calls, call } = start();
    const first = scheduler.submit(["a", "bb"], "document");
    const second = scheduler.submit(["bb", "ccc"], "document");
    (await call(0)).answer();
    expect(await first).toEqual([embeddingOf("a"), embeddingOf("bb")]);
    expect(await second).toEqual([embeddingOf("bb"), embeddingOf("ccc")]);
    expect(calls.map(({ texts }) => texts)).toEqual([["a", "bb", "ccc"]]);
    expect((await first)[1]).not.toBe((await second)[0]);
  });

  it("keeps batches below their bounds, and sends an over-long text alone", async () => {
    const { scheduler, batches } = startWith(() => false, "unavailable", {
      maxBatchTexts: 2,
      maxBatchLength: 4,
    });
    await scheduler.submit(["a", "b", "c", "dd", "eee", "ffffff", "g"], "document");
    expect(batches).toEqual([["a", "b"], ["c", "dd"], ["eee"], ["ffffff"], ["g"]]);
  });

  it("lets queries overtake documents, in batches of their own", async () => {
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

  it("lets documents have a turn after sixteen batches of queries", async () => {
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

  it.each([1, 2])("runs %i batches at a time", async (concurrency) => {
    const { scheduler, calls, call } = start({ maxBatchTexts: 1, concurrency });
    const all = scheduler.submit(["a", "b", "c"], "document");
    await call(concurrency - 1);
    expect(calls).toHaveLength(concurrency);
    expect(scheduler.waiting).toBe(3 - concurrency);
    for (let i = 0; i < 3; i++) (await call(i)).answer();
    await all;
  });

  it("rejects a caller that leaves at once, forgets its waiting texts, and lets the batch go on for others", async () => {
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

  it("serves a caller whose text is already under way for one that has left", async () => {
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

  it("fails all callers of a batch whose failure is nobody's fault, and not the next batch", async () => {
    const { scheduler, call } = start({ maxBatchTexts: 2 });
    const [a, b, c] = ["a", "b", "c"].map((text) => scheduler.submit([text], "document"));
    (await call(0)).fail(new EmbedError("unavailable", "away"));
    await expect(a).rejects.toMatchObject({ kind: "unavailable" });
    await expect(b).rejects.toMatchObject({ kind: "unavailable" });
    (await call(1)).answer();
    expect(await c).toHaveLength(1);
  });

  it("refuses more waiting texts than its bound, for each role by itself", async () => {
    const { scheduler, call } = start({ maxWaitingTexts: 2, maxBatchTexts: 2 });
    const running = scheduler.submit(["a", "b"], "document");
    await call(0);
    const waiting = scheduler.submit(["c", "d"], "document");
    await expect(scheduler.submit(["e"], "document")).rejects.toMatchObject({ kind: "unavailable" });
    const query = scheduler.submit(["q"], "query");
    for (let i = 0; i < 3; i++) (await call(i)).answer();
    await Promise.all([running, waiting, query]);
  });

  it("fails everybody when closed, and whoever comes later", async () => {
    const { scheduler, call } = start({ maxBatchTexts: 1 });
    const running = scheduler.submit(["a"], "document");
    const waiting = scheduler.submit(["b"], "document");
    await call(0);
    scheduler.close(new EmbedError("unavailable", "closed"));
    await expect(running).rejects.toThrow("closed");
    await expect(waiting).rejects.toThrow("closed");
    await expect(scheduler.submit(["c"], "document")).rejects.toThrow("closed");
  });

  it("answers no texts with no embeddings", async () => {
    expect(await start().scheduler.submit([], "query")).toEqual([]);
  });
});
