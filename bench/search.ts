import { SearchMode } from "memory-service-client/memoryservice/v1/memory_service_pb.js";
import { type FakeOllama, startFakeOllama } from "../qa/fakes/ollama/index.ts";
import { standInModels } from "../qa/fakes/ollama/stand-in.ts";
import { prepareText } from "../src/embedding/model-profile.ts";
import { profileForModel } from "../src/embedding/model-profiles.ts";
import { createMemoryClient, type MemoryClient } from "./client.ts";
import { type Engine, type EngineName, onEachEngine, versionOf } from "./engines.ts";
import { collectVectors, nearestRows, rowOf, type VectorTable } from "./exact-search.ts";
import { insertRows, type Rows, STORE_CALLERS, storeRow, storeRows } from "./load-rows.ts";
import { describeMachine, type Machine } from "./machine.ts";
import { type LoadResult, measureLoad } from "./measure.ts";
import { type Program, startFakeOllamaProcess, startServer } from "./processes.ts";
import { measureRawPool, RAW_QUERIES } from "./raw-pool.ts";
import { formatNumber, formatTable } from "./table.ts";
import { createTextSource, type TextSource } from "./texts.ts";

export type ModeName = "hybrid" | "semantic" | "text";

export interface SearchBenchmarkOptions {
  readonly engines: readonly (() => Promise<Engine>)[];
  readonly rows: number;
  readonly callers: readonly number[];
  readonly modes: readonly ModeName[];
  /** Measured for each number of callers. */
  readonly seconds: number;
  readonly limit: number;
  readonly seed: number;
  /** Gives each search its own text, so the server has to embed it; otherwise 200 texts alternate and are cached. */
  readonly freshQueries: boolean;
  /** Directory for the servers' CPU profiles: one of storing, one of searching. */
  readonly profileDirectory?: string | undefined;
  /** Keeps the database and reports its location. */
  readonly keep: boolean;
  /** Receives a line for each step, since some take minutes. */
  readonly progress: (line: string) => void;
}

/** One measured kind of query. */
export interface SearchFigures extends LoadResult {
  readonly label: string;
  /** Processor time of the server process per call, in milliseconds, over all threads. */
  readonly serverCpuMs: number | undefined;
}

export interface SearchBenchmarkResult {
  readonly engine: EngineName;
  readonly version: string;
  readonly machine: Machine;
  readonly rows: number;
  readonly dimensions: number;
  readonly limit: number;
  readonly seed: number;
  readonly queryEmbeddings: "cached" | "fresh";
  readonly ingest: LoadResult & {
    readonly way: "Store over gRPC" | "insert without a server";
    /** Stored without an embedding and embedded afterwards. */
    readonly pending: number;
    /** Building the vector index after inserting directly into the database. */
    readonly indexSeconds: number | undefined;
    readonly serverCpuMs: number | undefined;
  };
  /** Share of the ten nearest rows by exact search that SEMANTIC search returned: 0 to 1. */
  readonly recallAt10: number;
  readonly figures: readonly SearchFigures[];
}

/** Above this number of rows, storing through the server would take too long. */
const MAX_STORED_ROWS = 10_000;
const DOMAIN = "bench";
const QUERIES = 200;
const RECALL_QUERIES = 100;
const MODEL = "nomic-embed-text";

const modes = {
  hybrid: SearchMode.HYBRID,
  semantic: SearchMode.SEMANTIC,
  text: SearchMode.TEXT,
} as const satisfies Record<ModeName, SearchMode>;

/** Runs the benchmark on each engine in turn. */
export async function benchmarkSearch(options: SearchBenchmarkOptions): Promise<SearchBenchmarkResult[]> {
  return await onEachEngine(options, (engine) => measureEngine(engine, options));
}

async function measureEngine(
  engine: Engine,
  options: SearchBenchmarkOptions,
): Promise<SearchBenchmarkResult> {
  const { progress, limit, seed } = options;
  const machine = describeMachine();
  await using cleanup = new AsyncDisposableStack();
  const ollama = cleanup.adopt(await startFakeOllamaProcess(), (program) => program.stop());
  // A second fake in this process computes the vectors: both return the same vector for the same text.
  const local = cleanup.use(await startFakeOllama({ models: standInModels }));
  const vectors = createVectorSource(local);
  const texts = createTextSource(seed);
  const rows: Rows = { domain: DOMAIN, count: options.rows, texts };
  const table = collectVectors(rows.count, vectors.dimensions, (n) => vectors.document(texts.memory(n)));
  const environment = { ...engine.environment, OLLAMA_API_URL: ollama.url };

  progress(`${engine.name}: loading ${rows.count} rows`);
  const ingest = await loadRows(engine, environment, rows, table, options.profileDirectory);

  const server = cleanup.adopt(await startServer(environment, options.profileDirectory), (program) =>
    program.stop(),
  );
  const client = cleanup.adopt(createMemoryClient(server.url), (open) => open.close());
  progress(`${engine.name}: recall of ${RECALL_QUERIES} queries`);
  const recallAt10 = await measureRecall(client, rows, vectors, table);

  const figures: SearchFigures[] = [];
  for (const mode of options.modes) {
    const call = searchCall(client, mode, rows, options);
    await measureLoad({ callers: 4, calls: QUERIES, call });
    for (const callers of options.callers) {
      progress(`${engine.name}: ${mode}, ${callers} callers`);
      const load = { callers, seconds: options.seconds, call };
      figures.push({ label: mode, ...(await withCpu(server, () => measureLoad(load))) });
    }
  }
  for (const query of engine.url === undefined ? [] : RAW_QUERIES) {
    const asked = Array.from({ length: QUERIES }, (_, n) => vectors.query(queryText(texts, n, rows.count)));
    for (const callers of options.callers) {
      progress(`${engine.name}: ${query.label}, ${callers} callers`);
      const load = { callers, seconds: options.seconds };
      const result = await measureRawPool(engine.url ?? "", DOMAIN, query, asked, load);
      figures.push({ label: query.label, ...result, serverCpuMs: undefined });
    }
  }

  client.close();
  await server.stop();
  const database = cleanup.adopt(await engine.open(), (open) => open.close());
  return {
    engine: engine.name,
    version: await versionOf(database),
    machine,
    rows: rows.count,
    dimensions: vectors.dimensions,
    limit,
    seed,
    queryEmbeddings: options.freshQueries ? "fresh" : "cached",
    ingest,
    recallAt10,
    figures,
  };
}

async function loadRows(
  engine: Engine,
  environment: Readonly<Record<string, string>>,
  rows: Rows,
  table: VectorTable,
  profileDirectory: string | undefined,
): Promise<SearchBenchmarkResult["ingest"]> {
  const server = await startServer(environment, profileDirectory);
  const direct = rows.count > MAX_STORED_ROWS;
  let stored: Awaited<ReturnType<typeof storeRows>> & { serverCpuMs: number | undefined };
  try {
    const client = createMemoryClient(server.url);
    // The first memory creates the domain, which is not part of the measurement.
    await storeRow(client, rows, 0);
    const before = server.cpuSeconds();
    const part = await storeRows(client, direct ? { ...rows, count: 1 } : rows, 1);
    stored = { ...part, serverCpuMs: perCall(before, server.cpuSeconds(), part.load.calls) };
    client.close();
  } finally {
    await server.stop();
  }
  const database = await engine.open();
  try {
    const inserted = direct ? await insertRows(database, rows, 1, (n) => rowOf(table, n)) : undefined;
    // Autovacuum does this within a minute; the embedded engine has none, so its users never see the difference.
    if (database.engine === "postgres") await database.execute(`vacuum (analyze) "${DOMAIN}_memories"`);
    const { pending, serverCpuMs } = stored;
    return inserted === undefined
      ? { ...stored.load, way: "Store over gRPC", pending, indexSeconds: undefined, serverCpuMs }
      : {
          ...inserted.load,
          way: "insert without a server",
          pending: 0,
          indexSeconds: inserted.indexSeconds,
          serverCpuMs: undefined,
        };
  } finally {
    await database.close();
  }
}

function searchCall(
  client: MemoryClient,
  mode: ModeName,
  rows: Rows,
  { limit, freshQueries }: SearchBenchmarkOptions,
): (n: number) => Promise<void> {
  // Numbers continue from one measurement to the next, or the second would find its texts cached.
  let fresh = QUERIES;
  return async (n) => {
    const query = queryText(rows.texts, freshQueries ? fresh++ : n % QUERIES, rows.count);
    const { info } = await client.search({ domain: rows.domain, query, limit, mode: modes[mode] });
    if (info?.degraded === true) throw new Error("a search was answered without embeddings");
  };
}

async function measureRecall(
  client: MemoryClient,
  rows: Rows,
  vectors: VectorSource,
  table: VectorTable,
): Promise<number> {
  let found = 0;
  let wanted = 0;
  for (let n = 0; n < RECALL_QUERIES; n++) {
    const query = queryText(rows.texts, n, rows.count);
    const nearest = nearestRows(table, vectors.query(query), 10);
    const { hits } = await client.search({
      domain: rows.domain,
      query,
      limit: 10,
      mode: SearchMode.SEMANTIC,
    });
    const ids = new Set(hits.map((hit) => hit.memory?.id));
    found += nearest.filter((row) => ids.has(`m${row}`)).length;
    wanted += nearest.length;
  }
  return found / wanted;
}

interface VectorSource {
  readonly dimensions: number;
  document(text: string): Float32Array;
  query(text: string): Float32Array;
}

/** Returns the vectors that the server gets for a text. */
export function createVectorSource(fake: FakeOllama): VectorSource {
  const profile = profileForModel(MODEL);
  return {
    dimensions: fake.embedding("", MODEL).length,
    document: (text) => fake.embedding(prepareText(profile, text, "document"), MODEL),
    query: (text) => fake.embedding(prepareText(profile, text, "query"), MODEL),
  };
}

/** Makes every query ask about another row, spread over all of them. */
function queryText(texts: TextSource, n: number, rows: number): string {
  return texts.query(n, (n * 7_919) % rows);
}

async function withCpu(server: Program, measure: () => Promise<LoadResult>) {
  const before = server.cpuSeconds();
  const load = await measure();
  return { ...load, serverCpuMs: perCall(before, server.cpuSeconds(), load.calls) };
}

function perCall(before: number | undefined, after: number | undefined, calls: number): number | undefined {
  if (before === undefined || after === undefined || calls === 0) return undefined;
  return ((after - before) * 1_000) / calls;
}

/** Formats the result for people. */
export function formatSearchResult(result: SearchBenchmarkResult): string {
  const { machine, ingest } = result;
  const rawRates = new Map(
    result.figures
      .filter(({ label }) => label === RAW_QUERIES[0]?.label)
      .map(({ callers, perSecond }) => [callers, perSecond]),
  );
  const rows = result.figures.map((figure) => {
    const raw = rawRates.get(figure.callers);
    return [
      figure.label,
      String(figure.callers),
      formatNumber(figure.perSecond),
      formatNumber(figure.p50Ms),
      formatNumber(figure.p95Ms),
      formatNumber(figure.p99Ms),
      formatNumber(figure.serverCpuMs),
      raw === undefined ? "" : formatNumber(figure.perSecond / raw),
    ];
  });
  const stored =
    `${ingest.way}: ${formatNumber(ingest.perSecond)} rows/s` +
    (ingest.way === "Store over gRPC"
      ? `, ${STORE_CALLERS} callers, p50 ${formatNumber(ingest.p50Ms)} ms, p99 ${formatNumber(ingest.p99Ms)} ms, ` +
        `${formatNumber(ingest.serverCpuMs)} ms CPU of the server each, ${ingest.pending} pending`
      : `, then ${formatNumber(ingest.indexSeconds)} s for the vector index`);
  return [
    `${result.engine}: ${result.version}; ${result.rows} rows x ${result.dimensions}, seed ${result.seed}`,
    `${machine.cores} cores (${machine.processor}), Node ${machine.node}, load before ${machine.loadBefore}`,
    stored,
    `recall@10 of SEMANTIC against exact search: ${result.recallAt10.toFixed(3)}`,
    `Search over gRPC, limit ${result.limit}, query embeddings ${result.queryEmbeddings}`,
    "",
    formatTable(["search", "callers", "per second", "p50 ms", "p95 ms", "p99 ms", "CPU ms", "of raw"], rows),
  ].join("\n");
}
