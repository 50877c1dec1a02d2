import { describe, expect, it } from "vitest";
import { ManualClock } from "./index.ts";
import { call, embed, startForTest } from "./testing.ts";

const busy = "server busy, please try again.  maximum pending requests exceeded";

async function loadedModels(fake: Parameters<typeof call>[0]): Promise<string[]> {
  const { body } = await call(fake, "GET", "/api/ps");
  return JSON.parse(body).models.map((model: { name: string }) => model.name);
}

describe("loading", () => {
  it("loads a model on first use and returns the duration", async () => {
    const clock = new ManualClock();
    const fake = await startForTest({ clock, loadMs: 3000, perTextMs: 10 });
    const first = embed(fake, ["a", "b"]);
    await clock.untilSleeping();
    await clock.advance(3020);
    expect((await first).json).toMatchObject({ load_duration: 3_000_000_000, total_duration: 3_020_000_000 });
    expect(await loadedModels(fake)).toEqual(["tiny:latest"]);

    const second = embed(fake, "a");
    await clock.untilSleeping();
    await clock.advance(10);
    expect((await second).json).toMatchObject({ load_duration: 1000, total_duration: 10_000_000 });
  });

  it("loads the model even if there is nothing to embed", async () => {
    const fake = await startForTest();
    await embed(fake, undefined);
    expect(await loadedModels(fake)).toEqual(["tiny:latest"]);
  });

  it("aborts a load when its client leaves, and restarts it for the next client", async () => {
    const clock = new ManualClock();
    const fake = await startForTest({ clock, loadMs: 3000 });
    const client = new AbortController();
    const first = embed(fake, "a", {}, client.signal);
    await clock.untilSleeping();
    await clock.advance(2999);
    client.abort();
    await expect(first).rejects.toThrow("aborted");
    await fake.requests[0]?.done;
    expect(fake.requests[0]).toMatchObject({ aborted: true, status: 499 });

    const second = embed(fake, "a");
    await clock.untilSleeping();
    await clock.advance(2999);
    expect(clock.sleeping).toBe(1);
    await clock.advance(1);
    expect((await second).json.load_duration).toBe(3_000_000_000);
  });

  it("continues a load when a client that only waits for it leaves", async () => {
    const clock = new ManualClock();
    const fake = await startForTest({ clock, loadMs: 3000 });
    const client = new AbortController();
    const first = embed(fake, "a");
    await clock.untilSleeping();
    const waiting = embed(fake, "b", {}, client.signal);
    const record = await fake.whenRequest(({ json }) => (json as { input: string }).input === "b");
    client.abort();
    await expect(waiting).rejects.toThrow("aborted");
    await record.done;
    await clock.advance(3000);
    expect((await first).status).toBe(200);
    expect(record.status).toBe(499);
  });

  it("refuses requests when the queue for a load is full", async () => {
    const clock = new ManualClock();
    const fake = await startForTest({ clock, loadMs: 3000, maxQueue: 1 });
    const loading = embed(fake, "a");
    await clock.untilSleeping();
    const others = [embed(fake, "b"), embed(fake, "c")];
    const refused = await Promise.race(others);
    expect(refused).toEqual({ status: 503, json: { error: busy } });
    await clock.advance(3000);
    expect((await loading).status).toBe(200);
    expect((await Promise.all(others)).map(({ status }) => status).sort()).toEqual([200, 503]);
  });

  it("embeds one text at a time across clients", async () => {
    const clock = new ManualClock();
    const fake = await startForTest({ clock, perTextMs: 10 });
    const both = [embed(fake, ["a", "b"]), embed(fake, ["c", "d"])];
    await clock.untilSleeping();
    await fake.whenRequest(() => fake.requests.length === 2);
    expect(clock.sleeping).toBe(1);
    await clock.advance(40);
    const durations = (await Promise.all(both)).map(({ json }) => json.total_duration);
    expect(Math.max(...durations)).toBe(40_000_000);
  });

  it.each([
    { keepAlive: undefined, stays: 300_000 },
    { keepAlive: 60, stays: 60_000 },
    { keepAlive: "1m30s", stays: 90_000 },
  ])(
    "unloads a model that has been idle for its time, keep_alive $keepAlive",
    async ({ keepAlive, stays }) => {
      const clock = new ManualClock();
      const fake = await startForTest({ clock });
      await embed(fake, "a", { keep_alive: keepAlive });
      await clock.advance(stays - 1);
      expect(await loadedModels(fake)).toEqual(["tiny:latest"]);
      await clock.advance(1);
      expect(await loadedModels(fake)).toEqual([]);
    },
  );

  it("unloads at once with keep_alive 0 and never with a negative one", async () => {
    const clock = new ManualClock();
    const fake = await startForTest({ clock });
    await embed(fake, "a", { keep_alive: 0 });
    expect(await loadedModels(fake)).toEqual([]);
    await embed(fake, "a", { keep_alive: -1 });
    await clock.advance(1e9);
    expect(await loadedModels(fake)).toEqual(["tiny:latest"]);
  });

  it("reloads when the runner's options change", async () => {
    const clock = new ManualClock();
    const fake = await startForTest({ clock });
    const loadNs = async (options?: object) => {
      const answer = embed(fake, "a", { options });
      if (fake.loadMs > 0) {
        await clock.untilSleeping();
        await clock.advance(fake.loadMs);
      }
      return (await answer).json.load_duration;
    };
    await loadNs({ num_ctx: 32 });
    expect(await loadNs({ num_ctx: 32, temperature: 0 })).toBe(1000);
    fake.loadMs = 500;
    expect(await loadNs({ num_ctx: 16 })).toBe(500_000_000);
    expect(await loadNs()).toBe(500_000_000);
  });

  it("pulls for the configured time, and installs nothing if the client leaves early", async () => {
    const clock = new ManualClock();
    const fake = await startForTest({ clock, installed: [], pullMs: 300 });
    const client = new AbortController();
    const pull = call(fake, "POST", "/api/pull", { model: "tiny" }, client.signal);
    await clock.untilSleeping();
    await clock.advance(299);
    client.abort();
    await expect(pull).rejects.toThrow("aborted");
    await fake.requests[0]?.done;
    expect(fake.models.list()).toEqual([]);
  });

  it("unloads all models when it stops, and returns on the same port", async () => {
    const fake = await startForTest();
    await embed(fake, "a", { keep_alive: -1 });
    await fake.down();
    await expect(embed(fake, "a")).rejects.toMatchObject({ cause: { code: "ECONNREFUSED" } });
    await fake.up();
    expect(await loadedModels(fake)).toEqual([]);
    expect(await embed(fake, "a")).toMatchObject({ status: 200 });
  });
});
