import { expect, test } from "vitest";
import { chooseEngines } from "../../bench/engines.ts";
import { benchmarkFilters, formatFilterResult } from "../../bench/filters.ts";
import { benchmarkSearch, formatSearchResult } from "../../bench/search.ts";
import { createTextSource } from "../../bench/texts.ts";

/** Two processes, three starts of the embedded engine: 8 s on an idle machine. */
const TIMEOUT_MS = 120_000;

test(
  "the search benchmark stores its rows, finds the nearest of them and prints what it measured",
  async () => {
    const results = await benchmarkSearch({
      engines: chooseEngines("embedded", undefined),
      rows: 100,
      callers: [2],
      modes: ["hybrid"],
      seconds: 0.1,
      limit: 10,
      seed: 1,
      freshQueries: false,
      keep: false,
      progress: () => {},
    });

    const [result] = results;
    expect(result?.ingest).toMatchObject({ calls: 99, failures: 0, pending: 0 });
    expect(result?.recallAt10).toBeGreaterThan(0.99);
    expect(result?.figures).toMatchObject([{ label: "hybrid", callers: 2, failures: 0 }]);
    for (const printed of results.map(formatSearchResult)) expect(printed).toMatch(/^hybrid +2 +\d/m);
  },
  TIMEOUT_MS,
);

test(
  "the filter benchmark finds the nearest that pass each filter, and prints what it measured",
  async () => {
    const results = await benchmarkFilters({
      engines: chooseEngines("embedded", undefined),
      rows: 1_000,
      queries: 5,
      vectors: "clustered",
      seed: 1,
      keep: false,
      progress: () => {},
    });

    const [result] = results;
    expect(result?.figures).toHaveLength(10);
    for (const { filled, recallAt10 } of result?.figures ?? []) {
      expect(filled).toBe(1);
      expect(recallAt10).toBeGreaterThanOrEqual(0.98);
    }
    for (const printed of results.map(formatFilterResult))
      expect(printed).toMatch(/^50 % by a range +50 % +1\.000/m);
  },
  TIMEOUT_MS,
);

test("generated texts are the same for the same seed and others for another", () => {
  const [one, same, other] = [createTextSource(1), createTextSource(1), createTextSource(2)];

  expect(same.memory(7)).toBe(one.memory(7));
  expect(same.query(3, 7)).toBe(one.query(3, 7));
  expect(other.memory(7)).not.toBe(one.memory(7));
});
