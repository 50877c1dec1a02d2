import type { Database } from "../src/storage/database/database.ts";
import { domainTables } from "../src/storage/postgres/domains/domain-tables.ts";
import { createMemoryClient, type MemoryClient } from "./client.ts";
import { type Collection, type CollectionLine, domainName, memoryId, readCollections } from "./collection.ts";
import { type Engine, type EngineName, onEachEngine, versionOf } from "./engines.ts";
import { STORE_CALLERS } from "./load-rows.ts";
import { describeMachine, type Machine } from "./machine.ts";
import { type LoadResult, measureLoad } from "./measure.ts";
import { startFakeOllamaProcess, startServer } from "./processes.ts";
import { formatNumber, formatTable } from "./table.ts";

export interface CollectionsOptions {
  readonly engines: readonly (() => Promise<Engine>)[];
  /** Contains a directory for each collection, with documents.jsonl and queries.jsonl. */
  readonly directory: string;
  readonly progress: (line: string) => void;
}

export interface CollectionFigures {
  readonly collection: string;
  readonly domains: number;
  readonly documents: number;
  /** Documents that the server refused, with the reason and their number. */
  readonly refused: Readonly<Record<string, number>>;
  /** Rows in the tables at the end, counted directly in the database. */
  readonly stored: number;
  /** Rows with an embedding. */
  readonly embedded: number;
  readonly store: LoadResult;
  readonly search: LoadResult;
  readonly emptyAnswers: number;
  /** Searches answered without embeddings. */
  readonly degradedAnswers: number;
}

export interface CollectionsResult {
  readonly engine: EngineName;
  readonly version: string;
  readonly machine: Machine;
  readonly collections: readonly CollectionFigures[];
}

const SEARCH_CALLERS = 8;

/**
 * Stores every document of every collection and runs every query, on each engine.
 *
 * @throws StartupError if the directory contains no collection.
 */
export async function benchmarkCollections(options: CollectionsOptions): Promise<CollectionsResult[]> {
  const collections = await readCollections(options.directory);
  return await onEachEngine(options, (engine) => measureEngine(engine, collections, options.progress));
}

async function measureEngine(
  engine: Engine,
  collections: readonly Collection[],
  progress: (line: string) => void,
): Promise<CollectionsResult> {
  const machine = describeMachine();
  await using cleanup = new AsyncDisposableStack();
  const ollama = cleanup.adopt(await startFakeOllamaProcess(), (program) => program.stop());
  const environment = { ...engine.environment, OLLAMA_API_URL: ollama.url };
  const server = cleanup.adopt(await startServer(environment), (program) => program.stop());
  const client = cleanup.adopt(createMemoryClient(server.url), (open) => open.close());

  const figures: Omit<CollectionFigures, "stored" | "embedded">[] = [];
  for (const collection of collections) {
    progress(`${engine.name}: ${collection.name}, ${collection.documents.length} documents`);
    figures.push(await measureCollection(client, collection));
  }
  client.close();
  await server.stop();

  const database = cleanup.adopt(await engine.open(), (open) => open.close());
  const counted: CollectionFigures[] = [];
  for (const [index, figure] of figures.entries()) {
    const domains = domainsOf(collections[index]);
    counted.push({ ...figure, ...(await countRows(database, domains)) });
  }
  return { engine: engine.name, version: await versionOf(database), machine, collections: counted };
}

async function measureCollection(client: MemoryClient, collection: Collection) {
  const { name, documents, queries } = collection;
  const refused: Record<string, number> = {};
  const store = await measureLoad({
    callers: STORE_CALLERS,
    calls: documents.length,
    call: async (n) => {
      const { scope, id, text } = lineAt(documents, n);
      await client.store({ domain: domainName(name, scope), id: memoryId(id), content: text, source: name });
    },
    onFailure: (error) => {
      const reason = error instanceof Error ? error.message : String(error);
      refused[reason] = (refused[reason] ?? 0) + 1;
    },
  });
  let emptyAnswers = 0;
  let degradedAnswers = 0;
  const search = await measureLoad({
    callers: SEARCH_CALLERS,
    calls: queries.length,
    call: async (n) => {
      const { scope, text } = lineAt(queries, n);
      const { hits, info } = await client.search({ domain: domainName(name, scope), query: text, limit: 10 });
      if (hits.length === 0) emptyAnswers++;
      if (info?.degraded === true) degradedAnswers++;
    },
  });
  return {
    collection: name,
    domains: domainsOf(collection).length,
    documents: documents.length,
    refused,
    store,
    search,
    emptyAnswers,
    degradedAnswers,
  };
}

function domainsOf(collection: Collection | undefined): string[] {
  return [...new Set(collection?.documents.map((document) => domainName(collection.name, document.scope)))];
}

async function countRows(database: Database, domains: readonly string[]) {
  let stored = 0;
  let embedded = 0;
  for (const domain of domains) {
    const [row] = await database.query<{ stored: number; embedded: number }>({
      text: `select count(*)::integer as stored, count(embedding)::integer as embedded
        from ${domainTables(domain).memories}`,
    });
    stored += row?.stored ?? 0;
    embedded += row?.embedded ?? 0;
  }
  return { stored, embedded };
}

function lineAt(lines: readonly CollectionLine[], index: number): CollectionLine {
  const line = lines[index];
  if (line === undefined) throw new RangeError(`no line ${index}`);
  return line;
}

/** Formats the result for people. */
export function formatCollectionsResult({
  engine,
  version,
  machine,
  collections,
}: CollectionsResult): string {
  const rows = collections.map((figures) => [
    figures.collection,
    String(figures.domains),
    String(figures.documents),
    String(figures.stored),
    String(figures.embedded),
    formatNumber(figures.store.seconds),
    formatNumber(figures.store.perSecond),
    String(figures.search.calls),
    formatNumber(figures.search.perSecond),
    formatNumber(figures.search.p50Ms),
    formatNumber(figures.search.p99Ms),
    String(figures.emptyAnswers),
    String(figures.degradedAnswers),
  ]);
  const head =
    "collection,domains,documents,stored,embedded,seconds,per second,queries,per second,p50 ms,p99 ms,empty,degraded";
  const refused = collections.flatMap(({ collection, refused }) =>
    Object.entries(refused).map(([reason, times]) => `${collection}: ${times} refused: ${reason}`),
  );
  return [
    `${engine}: ${version}`,
    `${machine.cores} cores (${machine.processor}), Node ${machine.node}, load before ${machine.loadBefore}`,
    `Store from ${STORE_CALLERS} callers, hybrid Search (limit 10) from ${SEARCH_CALLERS}, over gRPC`,
    "",
    formatTable(head.split(","), rows),
    ...refused,
  ].join("\n");
}
