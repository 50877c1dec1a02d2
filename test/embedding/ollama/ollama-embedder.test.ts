import { describe, expect, it, onTestFinished } from "vitest";
import { ManualClock as FakeClock, startFakeOllama } from "../../../qa/fakes/ollama/index.ts";
import { profileForModel } from "../../../src/embedding/model-profiles.ts";
import { createOllamaEmbedder } from "../../../src/embedding/ollama/ollama-embedder.ts";
import { createManualClock } from "../manual-clock.ts";
import { createRecordingLogger } from "../recording-logger.ts";
import { startBench, startReadyBench, until, whenAvailable, whenIdle } from "../with-fake.ts";

const isEmbed = (request: { readonly path: string }) => request.path === "/api/embed";

/** Returns the value as an object, so that assertions can read its fields. @throws if it is none */
function objectOf(value: unknown): Record<string, unknown> {
  if (typeof value !== "object" || value === null) throw new Error("no object");
  return { ...value };
}

describe("the first check", () => {
  it("finds the space: model with tag, digest, dimensions, profile", async () => {
    const { embedder } = await startReadyBench();
    expect(embedder.space()).toEqual({
      model: "nomic-embed-text:latest",
      digest: "0a109f422b47e3a30ba2b10eca18548e944e8a23073ee3f3e947efcf3c45e59f",
      dimensions: 768,
      profile: "nomic/1",
      probe: expect.any(Float32Array),
    });
    expect(embedder.status()).toEqual({
      available: true,
      reason: expect.stringMatching(
        /^model "nomic-embed-text:latest" of Ollama at http:\S+ is ready, with 768 dimensions$/,
      ),
    });
  });

  it("reads the dimensions of a model without a profile from the server", async () => {
    const { embedder } = await startReadyBench({}, { model: "tiny" });
    expect(embedder.space()).toMatchObject({ dimensions: 32, profile: "generic/1" });
  });

  it("is shared by callers that arrive before it has ended", async () => {
    const { embedder } = await startBench();
    expect(embedder.status().available).toBe(false);
    expect(await embedder.embed(["early"], "query")).toHaveLength(1);
  });

  it("releases a caller that does not want to wait for it", async () => {
    const { embedder, fake } = await startBench({ loadMs: 3_600_000, clock: new FakeClock() });
    await fake.whenRequest(isEmbed);
    const leaving = new AbortController();
    const call = embedder.embed(["early"], "query", leaving.signal);
    leaving.abort(new Error("gone"));
    await expect(call).rejects.toThrow("gone");
  });

  it("explains how to get a missing model", async () => {
    const { embedder, log } = await startBench({ installed: [] });
    await log.whenLogged(/run "ollama pull nomic-embed-text"$/);
    expect(embedder.status()).toEqual({
      available: false,
      reason: expect.stringContaining('is not available: run "ollama pull nomic-embed-text"'),
    });
    await expect(embedder.embed(["x"], "query")).rejects.toMatchObject({ kind: "model-missing" });
  });

  it("refuses a chat model before it is loaded", async () => {
    const { embedder, log, embeds } = await startBench({}, { model: "llama3" });
    await log.whenLogged(/does not produce embeddings/);
    await expect(embedder.embed(["x"], "query")).rejects.toMatchObject({ kind: "model-missing" });
    expect(embeds()).toBe(0);
  });

  it("refuses a chat model that an old Ollama does not describe", async () => {
    const { embedder, log } = await startBench({
      prepare: (fake) => {
        fake.faults.enqueue({
          kind: "serverError",
          match: { path: "/api/show" },
          status: 500,
          text: "x",
          times: 99,
        });
      },
    });
    await log.whenLogged(/cannot be used/);
    expect(embedder.status().available).toBe(false);
  });

  it("continues without Ollama, and finds it once it starts", async () => {
    const bench = await startBench({ prepare: (it) => it.down() });
    const { embedder, fake, clock, log } = bench;
    await log.whenLogged(/is not listening/);
    await expect(embedder.embed(["x"], "query")).rejects.toMatchObject({ kind: "unavailable" });
    await whenIdle(bench);
    await fake.up();
    const available = whenAvailable(embedder);
    expect(clock.waiting()).toEqual([2_000]);
    clock.advance(2_000);
    await available;
    expect(await embedder.embed(["x"], "query")).toHaveLength(1);
  });

  it("logs the same problem once", async () => {
    const bench = await startBench({ prepare: (it) => it.down() });
    const { clock, log, fake } = bench;
    await log.whenLogged(/is not listening/);
    for (let i = 0; i < 3; i++) {
      await whenIdle(bench);
      clock.advance(2_000);
      await whenIdle(bench);
    }
    expect(fake.requests).toEqual([]);
    expect(log.lines.filter(({ level }) => level === "warn")).toHaveLength(1);
  });

  it("refuses an invalid address", () => {
    const options = { model: "m", pull: false, logger: createRecordingLogger() };
    expect(() => createOllamaEmbedder({ ...options, url: "ftp://x" })).toThrow(TypeError);
    expect(() => createOllamaEmbedder({ ...options, url: "nonsense" })).toThrow(TypeError);
  });
});

describe("a request", () => {
  it("contains prefix and cleaned text, refuses truncation and always has the same options", async () => {
    const { embedder, fake, batches } = await startReadyBench();
    await embedder.embed(["Crème BRÛLÉE"], "document");
    await embedder.embed(["Crème BRÛLÉE"], "query");
    expect(batches()).toEqual([["search_document: creme brulee"], ["search_query: creme brulee"]]);
    const sent = fake.requests.filter(isEmbed).map(({ json }) => objectOf(json));
    expect(sent.map(({ input: _, ...rest }) => rest)).toEqual(
      sent.map(() => ({
        model: "nomic-embed-text",
        truncate: false,
        keep_alive: 1_800,
        options: { num_ctx: 2_048, num_batch: 2_048 },
      })),
    );
  });

  it("asks for shorter embeddings if the model's own exceed the index limit", async () => {
    const qwen = { name: "qwen3-embedding:8b", family: "qwen3", dimensions: 4_096, contextLength: 32_768 };
    const { embedder } = await startReadyBench({ models: [qwen] }, { model: "qwen3-embedding:8b" });
    const [embedding] = await embedder.embed(["x"], "document");
    expect(embedding).toHaveLength(1_024);
    expect(embedder.space()?.dimensions).toBe(1_024);
  });

  it.each([
    ["nomic-embed-text", 768, 256],
    ["nomic-embed-text", 768, 768],
    ["qwen3-embedding:8b", 4_096, 2_000],
    ["mine", 300, 300],
  ])("shortens embeddings of %s from %d to %d dimensions", async (name, own, dimensions) => {
    const model = { name, family: "bert", dimensions: own, contextLength: 2_048 };
    const { embedder } = await startReadyBench({ models: [model] }, { model: name, dimensions });
    expect(await embedder.embed(["x"], "document")).toEqual([
      expect.objectContaining({ length: dimensions }),
    ]);
    expect(embedder.space()?.dimensions).toBe(dimensions);
  });

  it.each([
    [
      "nomic-embed-text",
      768,
      300,
      "has 768 dimensions and cannot produce 300; allowed: 768, 512, 256, 128, 64",
    ],
    ["all-minilm", 384, 256, "has 384 dimensions and cannot produce 256; allowed: 384"],
    ["all-minilm", 384, 768, "has 384 dimensions and cannot produce 768; allowed: 384"],
    ["qwen3-embedding:0.6b", 1_024, 16, "has 1024 dimensions and cannot produce 16; allowed: 32 to 1024"],
    ["mine", 300, 100, "has 300 dimensions and cannot produce 100; allowed: 300"],
  ])("refuses to change embeddings of %s from %d to %d dimensions", async (name, own, dimensions, why) => {
    const model = { name, family: "bert", dimensions: own, contextLength: 2_048 };
    const { embedder } = await startBench({ models: [model] }, { model: name, dimensions });
    await expect(embedder.embed(["x"], "document")).rejects.toMatchObject({
      kind: "model-missing",
      message: expect.stringContaining(why),
    });
  });

  it("refuses dimensions that the profile does not allow, even while Ollama is unavailable", async () => {
    const { embedder, fake } = await startBench({ prepare: (it) => it.close() }, { dimensions: 300 });
    await expect(embedder.embed(["x"], "document")).rejects.toMatchObject({ kind: "model-missing" });
    expect(fake.requests).toEqual([]);
  });

  it("follows a configured profile", async () => {
    const profile = { ...profileForModel("nomic-embed-text"), name: "mine/1", queryPrefix: "q> " };
    const { embedder, batches } = await startReadyBench({}, { profile });
    await embedder.embed(["x"], "query");
    expect(batches()).toEqual([["q> x"]]);
    expect(embedder.space()?.profile).toBe("mine/1");
  });

  it("accepts the longest chunk of prose", async () => {
    const { embedder } = await startReadyBench();
    const text = "memory ".repeat(1_000).slice(0, embedder.maxChunkLength);
    expect(await embedder.embed([text], "document")).toHaveLength(1);
  });

  it("reports a text that is too long for the model", async () => {
    const { embedder } = await startReadyBench();
    const dense = "-/".repeat(3_000);
    const good = embedder.embed(["short"], "document");
    await expect(embedder.embed([dense], "document")).rejects.toMatchObject({ kind: "too-long" });
    expect(await good).toHaveLength(1);
  });

  it("is not sent if there is nothing to embed", async () => {
    const { embedder, batches } = await startReadyBench();
    expect(await embedder.embed([], "document")).toEqual([]);
    await expect(embedder.embed(["x", " \n"], "document")).rejects.toMatchObject({ kind: "rejected" });
    expect(batches()).toEqual([]);
  });

  it("is not sent twice for the same query", async () => {
    const { embedder, batches } = await startReadyBench();
    const first = await embedder.embed(["Same"], "query");
    expect(await embedder.embed(["same"], "query")).toEqual(first);
    expect(await embedder.embed(["same", "other"], "query")).toHaveLength(2);
    expect(batches()).toEqual([["search_query: same"], ["search_query: other"]]);
    expect(embedder.stats().cachedQueries).toBe(2);
  });
});

describe("a cold load", () => {
  it("continues when its caller has left, and serves the next one", async () => {
    const fakeClock = new FakeClock();
    const { embedder, fake, batches } = await startReadyBench({ clock: fakeClock });
    fake.models.remove("nomic-embed-text");
    fake.models.add("nomic-embed-text");
    fake.loadMs = 8_000;
    const leaving = new AbortController();
    const impatient = embedder.embed(["hello"], "query", leaving.signal);
    await fakeClock.untilSleeping();
    leaving.abort(new Error("budget spent"));
    await expect(impatient).rejects.toThrow("budget spent");
    const patient = embedder.embed(["again"], "query");
    await fakeClock.advance(8_000);
    expect(await patient).toHaveLength(1);
    expect(fake.requests.filter(({ aborted }) => aborted)).toEqual([]);
    expect(batches()).toEqual([["search_query: hello"], ["search_query: again"]]);
    await embedder.embed(["hello"], "query");
    expect(batches(), "the result of a load whose caller left is kept").toHaveLength(2);
  });

  it("may take two minutes the first time, and half a minute later", async () => {
    const fakeClock = new FakeClock();
    const { embedder, clock, log, fake } = await startBench({ clock: fakeClock, loadMs: 100_000 });
    await fakeClock.untilSleeping();
    clock.advance(119_000);
    await fakeClock.advance(100_000);
    await log.whenLogged(/is ready$/);
    fake.faults.enqueue({ kind: "hang", phase: "answer", match: { path: "/api/embed" } });
    const call = embedder.embed(["x"], "query");
    await fake.whenRequest(({ body }) => body.includes("search_query: x"));
    clock.advance(31_000);
    await expect(call).rejects.toThrow("did not answer within 30 s");
  });
});

describe("a batch", () => {
  it.each([
    ["document", ["x"], 1],
    ["document", ["x", "y"], 1],
    ["query", ["x"], 0],
    ["query", ["x", "y"], 1],
  ] as const)("of a %s with the texts %j carries %i text of the embedder's own", async (role, texts, own) => {
    const { embedder, fake } = await startReadyBench();
    const before = fake.requests.length;
    expect(await embedder.embed(texts, role)).toHaveLength(texts.length);
    const sent = fake.requests.slice(before).map(({ json }) => objectOf(json).input);
    expect(sent).toEqual([
      [...(own === 1 ? ["a canary sings"] : []), ...texts.map((text) => `search_${role}: ${text}`)],
    ]);
  });
});

describe("many callers", () => {
  it("share requests: 100 concurrent texts need four", async () => {
    const { embedder, fake, batches } = await startReadyBench();
    const texts = Array.from({ length: 100 }, (_, i) => `note number ${i}`);
    const all = await Promise.all(texts.map((text) => embedder.embed([text], "document")));
    expect(batches().map(({ length }) => length)).toEqual([32, 32, 32, 4]);
    for (const [i, [embedding]] of all.entries()) {
      const wanted = fake.embedding(`search_document: ${texts[i]}`);
      expect(embedding?.every((value, at) => Math.abs(value - (wanted[at] ?? Number.NaN)) < 1e-6)).toBe(true);
    }
  });

  it("with one poisonous text among them lose only that one", async () => {
    const { embedder, fake } = await startReadyBench();
    fake.faults.enqueue({ kind: "poison", textIncludes: "venom" });
    const calls = Array.from({ length: 20 }, (_, i) =>
      embedder.embed([i === 13 ? "venom" : `tea ${i}`], "document"),
    );
    const results = await Promise.allSettled(calls);
    expect(results.flatMap(({ status }, i) => (status === "rejected" ? [i] : []))).toEqual([13]);
    expect(results[13]).toMatchObject({ reason: { kind: "rejected" } });
    expect(embedder.status().available).toBe(true);
  });

  it("with a text among them that crashes the engine each time lose only that one", async () => {
    const { embedder, fake } = await startReadyBench();
    fake.faults.enqueue({ kind: "eof", match: { textIncludes: "venom" }, times: 99 });
    const calls = ["tea", "venom", "milk"].map((text) => embedder.embed([text], "document"));
    const results = await Promise.allSettled(calls);
    expect(results.map(({ status }) => status)).toEqual(["fulfilled", "rejected", "fulfilled"]);
    expect(results[1]).toMatchObject({ reason: { kind: "rejected" } });
    expect(embedder.status().available).toBe(true);
  });
});

describe("an Ollama that becomes unavailable", () => {
  it("costs a single attempt where nothing listens", async () => {
    const { embedder, fake, clock } = await startReadyBench();
    await fake.down();
    await expect(embedder.embed(["x"], "document")).rejects.toThrow("is not listening");
    expect(embedder.stats().circuit).toBe("open");
    // No call waits for a retry that is still due.
    expect(clock.waiting().every((delayMs) => delayMs <= 2_000)).toBe(true);
    await expect(embedder.embed(["x"], "document")).rejects.toMatchObject({ kind: "unavailable" });
  });

  it("costs three attempts, then none until a probe succeeds", async () => {
    const bench = await startReadyBench();
    const { embedder, fake, clock } = bench;
    const lost = fake.faults.enqueue({ kind: "busy", match: { path: "/api/embed" }, times: 99 });
    await expect(embedder.embed(["x"], "document")).rejects.toThrow("server busy");
    expect(lost.hits).toBe(3);
    expect(embedder.stats().circuit).toBe("open");
    expect(embedder.status()).toMatchObject({
      available: false,
      reason: expect.stringContaining("server busy"),
    });

    const began = performance.now();
    for (let i = 0; i < 100; i++) {
      await expect(embedder.embed(["x"], "document")).rejects.toMatchObject({ kind: "unavailable" });
    }
    expect(performance.now() - began).toBeLessThan(500);
    expect(lost.hits).toBe(3);

    clock.advance(1_000);
    await until(() => lost.hits === 4);
    await whenIdle(bench);
    expect(embedder.stats().circuit).toBe("open");

    lost.remove();
    const available = whenAvailable(embedder);
    clock.advance(2_000);
    await available;
    expect(embedder.stats().circuit).toBe("closed");
    expect(await embedder.embed(["x"], "document")).toHaveLength(1);
  });

  it("does not affect cached queries", async () => {
    const { embedder, fake } = await startReadyBench();
    const before = await embedder.embed(["coffee"], "query");
    await fake.down();
    await expect(embedder.embed(["tea"], "query")).rejects.toMatchObject({ kind: "unavailable" });
    expect(await embedder.embed(["coffee"], "query")).toEqual(before);
  });

  it("can restart unnoticed between two calls", async () => {
    const { embedder, fake } = await startReadyBench();
    await embedder.embed(["x"], "document");
    await fake.down();
    await fake.up();
    expect(await embedder.embed(["y"], "document")).toHaveLength(1);
    expect(embedder.status().available).toBe(true);
  });

  it("does not make the embedder send texts to a redirect's target", async () => {
    const elsewhere = await startFakeOllama();
    onTestFinished(() => elsewhere.close());
    const { embedder, fake } = await startReadyBench();
    fake.faults.enqueue({
      kind: "redirect",
      location: `${elsewhere.url}/api/embed`,
      match: { path: "/api/embed" },
    });
    await expect(embedder.embed(["x"], "document")).rejects.toThrow("redirects");
    expect(elsewhere.requests).toEqual([]);
  });
});

describe("a model that changes under its name", () => {
  it("is noticed within half a minute, changes the space and notifies listeners", async () => {
    const bench = await startReadyBench();
    const { embedder, fake, clock } = bench;
    const before = embedder.space();
    const old = await embedder.embed(["coffee"], "query");
    const model = fake.models.find("nomic-embed-text");
    if (model === undefined) throw new Error("unreachable");
    fake.models.add({ ...model, digest: "f".repeat(64) });
    const changed = whenAvailable(embedder);
    await whenIdle(bench);
    clock.advance(30_000);
    await changed;
    expect(embedder.space()).toEqual({
      ...before,
      digest: "f".repeat(64),
      probe: expect.any(Float32Array),
    });
    expect(
      await embedder.embed(["coffee"], "query"),
      "cached embeddings belong to the old space",
    ).not.toEqual(old);
  });

  it("is noticed even if it has other dimensions", async () => {
    const bench = await startReadyBench({}, { model: "tiny" });
    const { embedder, fake, clock } = bench;
    fake.models.add({
      name: "tiny:latest",
      family: "bert",
      dimensions: 48,
      contextLength: 64,
      digest: "e".repeat(64),
    });
    await expect(embedder.embed(["x"], "document")).rejects.toThrow("48 dimensions instead of 32");
    const changed = whenAvailable(embedder);
    await whenIdle(bench);
    clock.advance(1_000);
    await changed;
    expect(embedder.space()?.dimensions).toBe(48);
    expect((await embedder.embed(["x"], "document"))[0]).toHaveLength(48);
  });

  it("triggers no event while nothing changes", async () => {
    const bench = await startReadyBench();
    const { embedder, fake, clock, embeds } = bench;
    let notified = 0;
    embedder.onAvailable(() => {
      notified += 1;
    });
    const before = fake.requests.length;
    await whenIdle(bench);
    clock.advance(30_000);
    await until(() => fake.requests.length === before + 2);
    await whenIdle(bench);
    expect([notified, embeds()], "both from the first check").toEqual([0, 2]);
  });

  it("is noticed before any of its embeddings is used", async () => {
    const { embedder, fake } = await startReadyBench();
    const model = fake.models.find("nomic-embed-text");
    if (model === undefined) throw new Error("unreachable");
    fake.models.add({ ...model, digest: "f".repeat(64) });
    await expect(embedder.embed(["coffee"], "document")).rejects.toThrow(
      "the embedding of a known text has changed",
    );
    await expect(embedder.embed(["coffee", "tea"], "query")).rejects.toMatchObject({ kind: "unavailable" });
  });

  it("starts a new space without cached embeddings if it embeds differently with the same digest", async () => {
    const bench = await startReadyBench();
    const { embedder, fake, clock, log } = bench;
    const before = embedder.space();
    const old = await embedder.embed(["coffee"], "query");
    fake.faults.enqueue({ kind: "drift", angle: 0.3 });
    await expect(embedder.embed(["x"], "document")).rejects.toMatchObject({ kind: "unavailable" });
    const changed = whenAvailable(embedder);
    await whenIdle(bench);
    clock.advance(1_000);
    await log.whenLogged(/returns other embeddings with the same digest/);
    await changed;
    expect(embedder.space()).toEqual({ ...before, probe: expect.any(Float32Array) });
    expect(embedder.space()?.probe).not.toEqual(before?.probe);
    expect(await embedder.embed(["coffee"], "query")).not.toEqual(old);
  });

  it("is noticed after an upgrade that changes embeddings, even if nothing is stored", async () => {
    const bench = await startReadyBench();
    const { embedder, fake, clock } = bench;
    const before = embedder.space();
    fake.faults.enqueue({ kind: "drift", angle: 0.1 });
    const changed = whenAvailable(embedder);
    await whenIdle(bench);
    clock.advance(30_000);
    await changed;
    expect(embedder.space()).not.toBe(before);
  });

  it("keeps its space after an upgrade that leaves embeddings unchanged", async () => {
    const bench = await startReadyBench();
    const { embedder, fake, clock, embeds } = bench;
    const before = embedder.space();
    // Below the difference that counts as another engine, although the version differs.
    fake.faults.enqueue({ kind: "drift", angle: 0.001 });
    await whenIdle(bench);
    clock.advance(30_000);
    await until(() => embeds() === 4);
    await whenIdle(bench);
    expect(embedder.space()).toBe(before);
  });

  it("fails callers at once when removed, and is used again when restored", async () => {
    const bench = await startReadyBench();
    const { embedder, fake, clock } = bench;
    fake.models.remove("nomic-embed-text");
    await expect(embedder.embed(["x"], "document")).rejects.toMatchObject({ kind: "model-missing" });
    await whenIdle(bench);
    expect(embedder.status().reason).toContain('run "ollama pull nomic-embed-text"');
    fake.models.add("nomic-embed-text");
    const available = whenAvailable(embedder);
    clock.advance(2_000);
    await available;
  });
});

describe("pulling", () => {
  it("downloads a missing model, logs its progress, and fails callers in the meantime", async () => {
    const fakeClock = new FakeClock();
    const { embedder, log } = await startBench(
      { installed: [], clock: fakeClock, pullMs: 30_000 },
      { pull: true },
    );
    await log.whenLogged(/is being downloaded$/);
    await expect(embedder.embed(["x"], "query")).rejects.toMatchObject({ kind: "unavailable" });
    for (const percent of [30, 60, 100]) {
      await fakeClock.untilSleeping();
      await fakeClock.advance(10_000);
      await until(() => log.lines.some(({ fields }) => objectOf(fields).percent === percent));
    }
    await log.whenLogged(/is ready$/);
    expect(await embedder.embed(["x"], "query")).toHaveLength(1);
  });

  it("reports a name that does not exist, and is not retried at every check", async () => {
    const bench = await startBench({}, { pull: true, model: "missing/model" });
    const { embedder, fake, log, clock } = bench;
    await log.whenLogged(/its download failed .*file does not exist/);
    await expect(embedder.embed(["x"], "query")).rejects.toMatchObject({ kind: "model-missing" });
    const pulls = () => fake.requests.filter(({ path }) => path === "/api/pull").length;
    const looks = () => fake.requests.filter(({ path }) => path === "/api/tags").length;
    for (let i = 1; i <= 14; i++) {
      await whenIdle(bench);
      clock.advance(2_000);
      await until(() => looks() === i + 1);
    }
    expect(pulls()).toBe(1);
    clock.advance(2_000);
    await until(() => pulls() === 2);
  });
});

describe("closing", () => {
  it("aborts running requests, fails waiting callers, and leaves no timer", async () => {
    const { embedder, fake, clock } = await startReadyBench();
    fake.faults.enqueue({ kind: "hang", phase: "answer", match: { path: "/api/embed" } });
    const running = embedder.embed(["x"], "document");
    const request = await fake.whenRequest(({ body }) => body.includes("search_document: x"));
    const waiting = embedder.embed(["y"], "document");
    const outcomes = Promise.allSettled([running, waiting]);
    await embedder.close();
    for (const outcome of await outcomes) {
      expect(outcome).toMatchObject({ status: "rejected", reason: { kind: "unavailable" } });
    }
    await request.done;
    expect(request.aborted).toBe(true);
    await until(() => clock.waiting().length === 0);
    await expect(embedder.embed(["z"], "document")).rejects.toThrow("closed");
    expect(embedder.status()).toEqual({ available: false, reason: "the embedder is closed" });
    await embedder.close();
  });

  it("ends the first check and fails its waiting callers", async () => {
    const { embedder, fake, clock } = await startBench({ loadMs: 3_600_000, clock: new FakeClock() });
    const early = embedder.embed(["x"], "query");
    early.catch(() => {});
    await fake.whenRequest(isEmbed);
    await embedder.close();
    await expect(early).rejects.toThrow("closed");
    expect(clock.waiting()).toEqual([]);
  });
});

describe("the address", () => {
  it("may have a path, a trailing /api and credentials, which are sent but never shown", async () => {
    const fake = await startFakeOllama();
    const logger = createRecordingLogger();
    const url = `${fake.url.replace("http://", "http://me:s%40cret@")}/api/`;
    const clock = createManualClock();
    const embedder = createOllamaEmbedder({ url, model: "tiny", pull: false, logger, clock });
    onTestFinished(async () => {
      await embedder.close();
      await fake.close();
    });
    await logger.whenLogged(/is ready$/);
    expect(fake.requests[0]?.headers.authorization).toBe(`Basic ${btoa("me:s@cret")}`);
    expect(JSON.stringify(logger.lines) + embedder.status().reason).not.toContain("cret");
  });
});
