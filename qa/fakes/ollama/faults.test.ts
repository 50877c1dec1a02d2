import { Agent, request } from "node:http";
import { describe, expect, it } from "vitest";
import { type Era, type Fault, ManualClock } from "./index.ts";
import { call, embed, exchange, isComplete, startForTest } from "./testing.ts";

const cut = (path: string) => `do embedding request: Post "http://127.0.0.1:41641${path}": EOF`;
const nanText = "failed to encode response: json: unsupported value: NaN";

describe("faults that return an error", () => {
  const rows: readonly { fault: Fault; era?: Era; status: number; error: unknown }[] = [
    { fault: { kind: "notFound" }, status: 404, error: 'model "tiny" not found, try pulling it first' },
    {
      fault: { kind: "busy" },
      status: 503,
      error: "server busy, please try again.  maximum pending requests exceeded",
    },
    { fault: { kind: "eof" }, status: 400, error: cut("/v1/embeddings") },
    { fault: { kind: "eof", at: 1 }, era: "v024", status: 400, error: cut("/embedding") },
    { fault: { kind: "eof" }, era: "v012", status: 500, error: cut("/embedding") },
    { fault: { kind: "eof" }, era: "v06", status: 500, error: {} },
    {
      fault: { kind: "serverError" },
      status: 500,
      error: "llama-server process has terminated: signal: killed",
    },
    { fault: { kind: "serverError", status: 429, text: "slow down" }, status: 429, error: "slow down" },
    { fault: { kind: "nan" }, era: "v024", status: 500, error: nanText },
    { fault: { kind: "nan" }, era: "v012", status: 500, error: nanText },
    { fault: { kind: "nan400" }, status: 400, error: "embedding contains NaN or Inf values" },
  ];

  it.each(rows)(
    "$fault.kind returns $status $era once, then requests succeed",
    async ({ fault, era, status, error }) => {
      const fake = await startForTest({ ...(era && { era }) });
      const handle = fake.faults.enqueue(fault);
      expect(await embed(fake, ["a", "b"])).toEqual({ status, json: { error } });
      expect(await embed(fake, ["a", "b"])).toMatchObject({ status: 200 });
      expect([handle.hits, fake.faults.pending]).toEqual([1, 0]);
    },
  );

  it("unloads the model when the engine crashes", async () => {
    const fake = await startForTest();
    fake.faults.enqueue({ kind: "eof" });
    await embed(fake, "a");
    expect((await call(fake, "GET", "/api/ps")).body).toBe('{"models":[]}');
  });

  it("returns each path's own error for a deleted model", async () => {
    const fake = await startForTest();
    fake.faults.enqueue({ kind: "notFound" });
    expect(await call(fake, "POST", "/api/show", { model: "tiny" })).toMatchObject({
      status: 404,
      body: `{"error":"model 'tiny:latest' not found"}`,
    });
  });
});

describe("faults in the vectors", () => {
  const zero = Array.from({ length: 32 }, () => 0);

  /** Embeds the same three texts without and with the fault. */
  async function both(fault: Fault) {
    const fake = await startForTest();
    const texts = ["one", "two", "three"];
    const { embeddings: good } = (await embed(fake, texts)).json as { embeddings: number[][] };
    fake.faults.enqueue(fault);
    const { status, json } = await embed(fake, texts);
    expect(status).toBe(200);
    return { fake, good, json, bad: json.embeddings };
  }

  it("nan returns a vector of zeros since 0.30", async () => {
    const { good, bad } = await both({ kind: "nan", at: 1 });
    expect(bad).toEqual([good[0], zero, good[2]]);
  });

  it("nan affects only the matching text", async () => {
    const { good, bad } = await both({ kind: "nan", match: { textIncludes: "three" } });
    expect(bad).toEqual([good[0], good[1], zero]);
  });

  it("poison affects each request with its text until cleared", async () => {
    const fake = await startForTest({ era: "v024" });
    fake.faults.enqueue({ kind: "poison", textIncludes: "bad" });
    const statuses = async () =>
      Promise.all(
        [["good"], ["good", "bad"], ["a bad one"]].map(async (texts) => (await embed(fake, texts)).status),
      );
    expect(await statuses()).toEqual([200, 500, 500]);
    expect(await statuses()).toEqual([200, 500, 500]);
    fake.faults.clear();
    expect(await statuses()).toEqual([200, 200, 200]);
  });

  it("zeros returns only zero vectors", async () => {
    const { bad, json } = await both({ kind: "zeros" });
    expect(bad).toEqual([zero, zero, zero]);
    expect(json.prompt_eval_count).toBe(3 * 2 + 4);
  });

  it("nulls and strings replace numbers", async () => {
    expect((await both({ kind: "nulls" })).bad[0][0]).toBe(null);
    const { good, bad } = await both({ kind: "strings" });
    expect(bad[0][0]).toBe(String(good[0]?.[0]));
  });

  it("wrongCount omits vectors, adds some, or returns another format", async () => {
    expect((await both({ kind: "wrongCount" })).bad).toHaveLength(2);
    expect((await both({ kind: "wrongCount", delta: 2 })).bad).toHaveLength(5);
    expect((await both({ kind: "wrongCount", form: "empty" })).bad).toEqual([]);
    expect((await both({ kind: "wrongCount", form: "nullVector" })).bad).toEqual([null]);
    expect((await both({ kind: "wrongCount", form: "missing" })).json).not.toHaveProperty("embeddings");
    const { good, json } = await both({ kind: "wrongCount", form: "legacyKey" });
    expect(json).toMatchObject({ embedding: good[0] });
  });

  it("wrongDim changes the dimensions of all vectors or of one", async () => {
    const lengths = async (fault: Fault) => (await both(fault)).bad.map((vector: number[]) => vector.length);
    expect(await lengths({ kind: "wrongDim", dims: 16 })).toEqual([16, 16, 16]);
    expect(await lengths({ kind: "wrongDim", dims: 40, at: 2 })).toEqual([32, 32, 40]);
  });

  it("dimDrift changes all later vectors", async () => {
    const { fake, bad } = await both({ kind: "dimDrift", dims: 24 });
    expect(bad[0]).toHaveLength(24);
    expect((await embed(fake, "a")).json.embeddings[0]).toHaveLength(24);
  });

  it("swap exchanges two vectors", async () => {
    const { good, bad } = await both({ kind: "swap" });
    expect(bad).toEqual([good[2], good[1], good[0]]);
  });

  it("constant returns the same vector for all texts", async () => {
    const { good, bad } = await both({ kind: "constant" });
    expect(bad).toEqual([good[0], good[0], good[0]]);
  });

  it("notUnit scales vectors", async () => {
    const { bad } = await both({ kind: "notUnit", scale: 3 });
    expect(Math.hypot(...bad[1])).toBeCloseTo(3, 6);
  });

  it("drift rotates all vectors alike and reports a newer version until cleared", async () => {
    const { fake, good, bad } = await both({ kind: "drift", angle: 0.5 });
    const dot = (a: number[] = [], b: number[] = []) =>
      a.reduce((sum, value, index) => sum + value * (b[index] ?? 0), 0);
    expect(dot(good[0], bad[0])).toBeCloseTo(Math.cos(0.5), 6);
    expect(dot(bad[0], bad[1])).toBeCloseTo(dot(good[0], good[1]), 6);
    expect((await call(fake, "GET", "/api/version")).body).toBe('{"version":"0.33.1"}');
    fake.faults.clear();
    expect((await embed(fake, "one")).json.embeddings[0]).toEqual(good[0]);
    expect((await call(fake, "GET", "/api/version")).body).toBe('{"version":"0.33.0"}');
  });

  it("caseBug treats all words with an upper-case letter as one", async () => {
    const fake = await startForTest();
    fake.faults.enqueue({ kind: "caseBug" });
    const { embeddings } = (
      await embed(fake, ["REPLACE SUMP PUMP", "CREATE A SPREADSHEET", "replace sump pump"])
    ).json;
    expect(embeddings[0]).toEqual(embeddings[1]);
    expect(embeddings[0]).not.toEqual(embeddings[2]);
  });

  it("affects the other two paths as well", async () => {
    const fake = await startForTest();
    fake.faults.enqueue({ kind: "zeros", times: 2 });
    const legacy = await call(fake, "POST", "/api/embeddings", { model: "tiny", prompt: "a" });
    expect(JSON.parse(legacy.body)).toEqual({ embedding: zero });
    const openAi = await call(fake, "POST", "/v1/embeddings", { model: "tiny", input: "a" });
    expect(JSON.parse(openAi.body).data[0].embedding).toEqual(zero);
  });
});

describe("faults on the wire", () => {
  it.each([
    ["html", "text/html", /^<!doctype html>/],
    ["empty", "application/json; charset=utf-8", /^$/],
    ["truncated", "application/json; charset=utf-8", /^\{"model":"x","embeddings":\[\[0\.1,$/],
    ["nanLiteral", "application/json; charset=utf-8", /\[\[NaN,0\.1\]\]/],
    ["huge", "application/json; charset=utf-8", /^a+$/],
    ["errorInOk", "application/json; charset=utf-8", /^\{"error":"x"\}$/],
  ] as const)("garbage %s comes with status 200", async (form, type, body) => {
    const fake = await startForTest();
    fake.faults.enqueue({ kind: "garbage", form });
    const answer = await call(fake, "POST", "/api/embed", { model: "tiny", input: "a" });
    expect(answer).toMatchObject({ status: 200, type });
    expect(answer.body).toMatch(body);
    if (form === "huge") expect(answer.body).toHaveLength(10_000_000);
  });

  it("wrongType returns plain text or a proxy's page", async () => {
    const fake = await startForTest();
    fake.faults.enqueue({ kind: "wrongType" });
    fake.faults.enqueue({ kind: "wrongType", form: "proxy" });
    expect(await call(fake, "POST", "/api/embed")).toMatchObject({
      status: 200,
      type: "text/plain; charset=utf-8",
    });
    expect(await call(fake, "POST", "/api/embed")).toMatchObject({ status: 502, type: "text/html" });
  });

  it("redirect points to another host", async () => {
    const fake = await startForTest();
    fake.faults.enqueue({ kind: "redirect" });
    const response = await fetch(`${fake.url}/api/embed`, { method: "POST", redirect: "manual" });
    expect([response.status, response.headers.get("location")]).toEqual([
      307,
      "http://elsewhere.invalid/api/embed",
    ]);
  });

  it("slow delays the headers", async () => {
    const clock = new ManualClock();
    const fake = await startForTest({ clock });
    fake.faults.enqueue({ kind: "slow", ms: 5000 });
    let answered = false;
    const answer = embed(fake, "a").then(({ status }) => {
      answered = true;
      return status;
    });
    await clock.untilSleeping();
    await clock.advance(4999);
    expect([answered, clock.sleeping]).toEqual([false, 1]);
    await clock.advance(1);
    expect(await answer).toBe(200);
  });

  it("drip sends the body in small pieces", async () => {
    const clock = new ManualClock();
    const fake = await startForTest({ clock });
    fake.faults.enqueue({ kind: "drip", bytesPerSec: 1000 });
    const half = exchange(fake, { untilReceived: (received) => received.includes('\r\n\r\n{"model') });
    await clock.untilSleeping();
    const { received } = await half;
    expect(isComplete(received)).toBe(false);
    await fake.requests[0]?.done;
    expect(fake.requests[0]).toMatchObject({ aborted: true, status: 499 });

    fake.faults.enqueue({ kind: "drip", bytesPerSec: 100_000 });
    const whole = embed(fake, "a");
    await clock.untilSleeping();
    await clock.advance(1000);
    expect((await whole).status).toBe(200);
  });

  it("hang never answers", async () => {
    const fake = await startForTest();
    fake.faults.enqueue({ kind: "hang", phase: "answer" });
    // Another request that comes after it and is answered shows that this one was not.
    const later = fake.whenRequest(() => true).then(() => embed(fake, "a"));
    expect(await exchange(fake, { until: later })).toEqual({ received: "", outcome: "open" });
  });

  it("hang stops after the headers or in mid-body", async () => {
    const fake = await startForTest();
    fake.faults.enqueue({ kind: "hang", phase: "headers" });
    const afterHeaders = await exchange(fake, { untilReceived: (received) => received.endsWith("\r\n\r\n") });
    expect(afterHeaders.received).toMatch(/^HTTP\/1\.1 200 OK\r\n/);

    fake.faults.enqueue({ kind: "hang", phase: "body" });
    const midBody = await exchange(fake, { untilReceived: (received) => received.includes('{"model"') });
    expect(isComplete(midBody.received)).toBe(false);
  });

  it.each([
    { kind: "reset", phase: "headers", outcome: "ECONNRESET", received: /^$/ },
    { kind: "reset", phase: "body", outcome: "ECONNRESET", received: /^(HTTP.*\{"model".*)?$/s },
    { kind: "close", phase: "headers", outcome: "end", received: /^$/ },
    { kind: "close", phase: "body", outcome: "end", received: /^HTTP.*\{"model".*[^}]$/s },
  ] as const)(
    "$kind ends the connection before or in the $phase",
    async ({ received, outcome, ...fault }) => {
      const fake = await startForTest();
      fake.faults.enqueue(fault);
      const seen = await exchange(fake);
      expect(seen.outcome).toBe(outcome);
      expect(seen.received).toMatch(received);
      await fake.requests[0]?.done;
      expect(fake.requests[0]).toMatchObject({ aborted: false });
      expect(await embed(fake, "a")).toMatchObject({ status: 200 });
    },
  );

  it("staleKeepAlive closes after a complete answer that did not say so", async () => {
    const fake = await startForTest();
    fake.faults.enqueue({ kind: "staleKeepAlive" });
    const seen = await exchange(fake);
    expect(seen.outcome).toBe("end");
    expect(seen.received).toMatch(/^HTTP\/1\.1 200 OK\r\n/);
    expect(seen.received).not.toMatch(/connection: close/i);
    expect(isComplete(seen.received)).toBe(true);
  });

  it("keeps a connection open otherwise", async () => {
    const fake = await startForTest();
    const agent = new Agent({ keepAlive: true, maxSockets: 1 });
    const portOf = () =>
      new Promise<number | undefined>((resolve, reject) => {
        const get = request(`${fake.url}/api/version`, { agent }, (response) => {
          const { localPort } = response.socket;
          response.resume().once("end", () => resolve(localPort));
        });
        get.once("error", reject).end();
      });
    expect(await portOf()).toBe(await portOf());
    agent.destroy();
  });

  it("down cuts the request and refuses the next", async () => {
    const fake = await startForTest();
    fake.faults.enqueue({ kind: "down" });
    expect((await exchange(fake)).outcome).toBe("ECONNRESET");
    await fake.down();
    expect((await exchange(fake)).outcome).toBe("ECONNREFUSED");
    await fake.up();
    expect(await embed(fake, "a")).toMatchObject({ status: 200 });
  });
});

describe("the queue of faults", () => {
  const failing = { kind: "serverError" } as const;

  it.each([
    { name: "a path", match: { path: "/api/version" }, statuses: [200, 200, 200] },
    { name: "a model", match: { model: "tiny:latest" }, statuses: [500, 500, 500] },
    { name: "another model", match: { model: "nomic-embed-text" }, statuses: [200, 200, 200] },
    { name: "a text", match: { textIncludes: "wo" }, statuses: [200, 500, 200] },
    { name: "the nth request and later", match: { nth: 2 }, statuses: [200, 500, 500] },
    { name: "the nth with a text", match: { textIncludes: "o", nth: 2 }, statuses: [200, 500, 200] },
  ])("matches $name", async ({ match, statuses }) => {
    const fake = await startForTest();
    fake.faults.enqueue({ ...failing, match, times: 9 });
    const seen = [];
    for (const text of ["one", "two", "three"]) seen.push((await embed(fake, text)).status);
    expect(seen).toEqual(statuses);
  });

  it("applies the first matching fault, each as often as requested", async () => {
    const fake = await startForTest();
    fake.faults.enqueue({ kind: "busy", times: 2 });
    fake.faults.enqueue({ kind: "serverError", status: 418 });
    const seen = [];
    for (let i = 0; i < 4; i++) seen.push((await embed(fake, "a")).status);
    expect(seen).toEqual([503, 503, 418, 200]);
  });

  it("applies embedding faults only to embedding paths", async () => {
    const fake = await startForTest();
    fake.faults.enqueue({ kind: "zeros" });
    expect((await call(fake, "GET", "/api/version")).status).toBe(200);
    expect(fake.faults.pending).toBe(1);
  });

  it("can remove a fault", async () => {
    const fake = await startForTest();
    fake.faults.enqueue(failing).remove();
    expect(await embed(fake, "a")).toMatchObject({ status: 200 });
  });
});
