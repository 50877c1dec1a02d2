import { describe, expect, it } from "vitest";
import { createQueryCache } from "../../src/embedding/query-cache.ts";

const SPACE = { model: "m:latest", digest: "d", dimensions: 2, profile: "p/1" };
const embedding = (value: number) => Float32Array.of(value, 0);

describe("query cache", () => {
  it("returns a stored embedding for the same space and text only", () => {
    const cache = createQueryCache();
    cache.set(SPACE, "a", embedding(1));
    expect(cache.get(SPACE, "a")).toEqual(embedding(1));
    expect(cache.get(SPACE, "b")).toBeUndefined();
    for (const other of [{ model: "n" }, { digest: "e" }, { dimensions: 3 }, { profile: "p/2" }]) {
      expect(cache.get({ ...SPACE, ...other }, "a")).toBeUndefined();
    }
  });

  it("evicts the least recently used entry", () => {
    const cache = createQueryCache(2);
    cache.set(SPACE, "a", embedding(1));
    cache.set(SPACE, "b", embedding(2));
    cache.get(SPACE, "a");
    cache.set(SPACE, "c", embedding(3));
    expect(cache.size).toBe(2);
    expect(cache.get(SPACE, "b")).toBeUndefined();
    expect(cache.get(SPACE, "a")).toBeDefined();
  });

  it("copies embeddings on the way in and out", () => {
    const cache = createQueryCache();
    const mine = embedding(1);
    cache.set(SPACE, "a", mine);
    mine[0] = 9;
    const read = cache.get(SPACE, "a");
    read?.fill(8);
    expect(cache.get(SPACE, "a")).toEqual(embedding(1));
  });

  it("stores no very long texts, and nothing at size 0", () => {
    const cache = createQueryCache();
    cache.set(SPACE, "a".repeat(2_001), embedding(1));
    expect(cache.size).toBe(0);
    const none = createQueryCache(0);
    none.set(SPACE, "a", embedding(1));
    expect(none.get(SPACE, "a")).toBeUndefined();
  });
});
