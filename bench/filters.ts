import { startFakeOllama } from "../qa/fakes/ollama/index.ts";
import { standInModels } from "../qa/fakes/ollama/stand-in.ts";
import type { Filter } from "../src/memory/model/filter.ts";
import { candidateDepth } from "../src/memory/search/fuse-scores.ts";
import { migrate, sqlDirectory } from "../src/storage/migrations/migrations.ts";
import { createPostgresRepository } from "../src/storage/postgres/create-repository.ts";
import { silentLogger } from "../test/support/silent-logger.ts";
import { createClusteredVectors, type RowVectors } from "./clustered-vectors.ts";
import { type Engine, type EngineName, onEachEngine, versionOf } from "./engines.ts";
import { collectVectors, nearestRows } from "./exact-search.ts";
import { insertRows, SLOTS, slotOf } from "./load-rows.ts";
import { describeMachine, type Machine } from "./machine.ts";
import { measureLoad, percentile } from "./measure.ts";
import { createVectorSource } from "./search.ts";
import { formatNumber, formatTable } from "./table.ts";
import { createTextSource, type TextSource } from "./texts.ts";

export type VectorKind = "clustered" | "words";

export interface FilterBenchmarkOptions {
  readonly engines: readonly (() => Promise<Engine>)[];
  readonly rows: number;
  readonly queries: number;
  readonly vectors: VectorKind;
  readonly seed: number;
  /** Keeps the database and reports its location. */
  readonly keep: boolean;
  readonly progress: (line: string) => void;
}

/** The results of semantic search with one filter. */
export interface FilterFigures {
  readonly label: string;
  /** Share of rows that match: 0 to 1. */
  readonly share: number;
  /** Share of the ten nearest matching rows by exact search that the search returned: 0 to 1. */
  readonly recallAt10: number;
  /** Share of queries that returned ten hits, or all matching rows: 0 to 1. */
  readonly filled: number;
  readonly p50Ms: number;
  readonly p95Ms: number;
}

export interface FilterBenchmarkResult {
  readonly engine: EngineName;
  readonly version: string;
  readonly machine: Machine;
  readonly rows: number;
  readonly vectors: VectorKind;
  readonly queries: number;
  readonly seed: number;
  readonly figures: readonly FilterFigures[];
}

const DOMAIN = "bench";
const LIMIT = 10;

interface Case {
  readonly label: string;
  readonly filter: ((about: number) => Filter) | undefined;
  passes(row: number, about: number): boolean;
}

/** Measures nearest-neighbour search with filters of several selectivities, directly on the database. */
export async function benchmarkFilters(options: FilterBenchmarkOptions): Promise<FilterBenchmarkResult[]> {
  return await onEachEngine(options, (engine) => measureEngine(engine, options));
}

async function measureEngine(
  engine: Engine,
  { rows, queries, vectors: kind, seed, progress }: FilterBenchmarkOptions,
): Promise<FilterBenchmarkResult> {
  const machine = describeMachine();
  await using cleanup = new AsyncDisposableStack();
  const texts = createTextSource(seed);
  const vectors = kind === "clustered" ? createClusteredVectors(seed) : await wordVectors(texts, cleanup);
  const { dimensions } = vectors;
  const table = collectVectors(rows, dimensions, (n) => vectors.document(n));

  const database = cleanup.adopt(await engine.open(), (open) => open.close());
  await migrate(database, { directory: sqlDirectory, logger: silentLogger });
  const repository = createPostgresRepository(database);
  const version = await repository.registerEmbeddingVersion(
    { model: "bench", digest: "", dimensions, profile: "plain/1" },
    1,
  );
  await repository.createDomain(DOMAIN, dimensions);
  await repository.useEmbeddingVersion(DOMAIN, version, dimensions);
  progress(`${engine.name}: loading ${rows} rows`);
  await insertRows(database, { domain: DOMAIN, count: rows, texts }, 0, (n) =>
    table.values.subarray(n * dimensions, (n + 1) * dimensions),
  );
  await database.execute(
    database.engine === "postgres" ? `vacuum (analyze) "${DOMAIN}_memories"` : `analyze "${DOMAIN}_memories"`,
  );

  const asked = Array.from({ length: queries }, (_, n) => {
    const about = (n * 7_919) % rows;
    return { about, embedding: vectors.query(n, about) };
  });
  const figures: FilterFigures[] = [];
  for (const { label, filter, passes } of cases(texts)) {
    progress(`${engine.name}: ${label}`);
    const expected = asked.map(({ about, embedding }) =>
      nearestRows(table, embedding, LIMIT, (row) => passes(row, about)),
    );
    const found: string[][] = [];
    const times: number[] = [];
    let filled = 0;
    await measureLoad({
      callers: 1,
      calls: 2 * queries,
      call: async (call) => {
        // The first half is a warm-up.
        const n = call % queries;
        const { about, embedding } = asked[n] ?? { about: 0, embedding: new Float32Array() };
        const start = performance.now();
        const { candidates, exhausted } = await repository.searchSemantic(DOMAIN, {
          embedding,
          embeddingVersion: version,
          depth: candidateDepth(LIMIT),
          minSimilarity: undefined,
          filter: filter?.(about),
        });
        if (call < queries) return;
        times.push(performance.now() - start);
        found[n] = candidates.slice(0, LIMIT).map(({ id }) => id);
        if (exhausted || candidates.length >= LIMIT) filled++;
      },
    });
    const wanted = expected.flat().length;
    const hits = expected.flatMap((ids, n) => ids.filter((row) => found[n]?.includes(`m${row}`))).length;
    times.sort((a, b) => a - b);
    figures.push({
      label,
      share: shareOf(rows, (row) => passes(row, 0)),
      recallAt10: wanted === 0 ? 1 : hits / wanted,
      filled: filled / queries,
      p50Ms: percentile(times, 50),
      p95Ms: percentile(times, 95),
    });
  }
  return {
    engine: engine.name,
    version: await versionOf(database),
    machine,
    rows,
    vectors: kind,
    queries,
    seed,
    figures,
  };
}

/** Slots are independent of the content; no index supports a range of them, but one supports a list. */
function cases(texts: TextSource): Case[] {
  const path = ["slot"];
  const bounds = { gte: undefined, gt: undefined, lte: undefined };
  const inRange = (lt: number): Case => ({
    label: `${formatShare(lt / SLOTS)} by a range`,
    filter: () => ({ kind: "metadata", path, test: { kind: "range", range: { ...bounds, lt } } }),
    passes: (row) => slotOf(row) < lt,
  });
  const oneOf = (count: number): Case => ({
    label: `${formatShare(count / SLOTS)} by a list`,
    filter: () => ({
      kind: "metadata",
      path,
      test: { kind: "one_of", values: Array.from({ length: count }, (_, slot) => slot) },
    }),
    passes: (row) => slotOf(row) < count,
  });
  const otherTopic = (about: number) => texts.topic(about + 1);
  return [
    { label: "no filter", filter: undefined, passes: () => true },
    ...[1, 10, 100, 500].flatMap((slots) => [inRange(slots), oneOf(slots)]),
    {
      label: "a tag of another topic",
      filter: (about) => ({ kind: "tags_any", tags: [otherTopic(about)] }),
      passes: (row, about) => texts.topic(row) === otherTopic(about),
    },
  ];
}

async function wordVectors(texts: TextSource, cleanup: AsyncDisposableStack): Promise<RowVectors> {
  const source = createVectorSource(cleanup.use(await startFakeOllama({ models: standInModels })));
  return {
    dimensions: source.dimensions,
    document: (n) => source.document(texts.memory(n)),
    query: (n, about) => source.query(texts.query(n, about)),
  };
}

function shareOf(rows: number, passes: (row: number) => boolean): number {
  let count = 0;
  for (let row = 0; row < rows; row++) if (passes(row)) count++;
  return count / rows;
}

function formatShare(share: number): string {
  return `${Number((share * 100).toFixed(2))} %`;
}

/** Formats the result for people. */
export function formatFilterResult(result: FilterBenchmarkResult): string {
  const { machine } = result;
  const rows = result.figures.map((figure) => [
    figure.label,
    formatShare(figure.share),
    figure.recallAt10.toFixed(3),
    figure.filled.toFixed(3),
    formatNumber(figure.p50Ms),
    formatNumber(figure.p95Ms),
  ]);
  return [
    `${result.engine}: ${result.version}; ${result.rows} rows, ${result.vectors} vectors, seed ${result.seed}`,
    `${machine.cores} cores (${machine.processor}), Node ${machine.node}, load before ${machine.loadBefore}`,
    `The nearest that pass a filter, ${result.queries} queries, one after the other, without a server`,
    "",
    formatTable(["filter", "passes", "recall@10", "filled", "p50 ms", "p95 ms"], rows),
  ].join("\n");
}
