import { Memory_Embedding_State } from "memory-service-client/memoryservice/v1/memory_pb.js";
import type { Database } from "../src/storage/database/database.ts";
import { createPostgresRepository } from "../src/storage/postgres/create-repository.ts";
import type { MemoryClient } from "./client.ts";
import { type LoadResult, measureLoad } from "./measure.ts";
import type { TextSource } from "./texts.ts";

export interface Rows {
  readonly domain: string;
  readonly count: number;
  readonly texts: TextSource;
}

/** Number of concurrent stores, so that the server can batch their texts for the embedder. */
export const STORE_CALLERS = 32;

/** Stores one row through the server with the id `m` and its number. Returns whether it has an embedding. */
export async function storeRow(client: MemoryClient, { domain, texts }: Rows, n: number): Promise<boolean> {
  const { memory } = await client.store({
    domain,
    id: `m${n}`,
    content: texts.memory(n),
    ...extras(texts, n),
  });
  return memory?.embedding?.state === Memory_Embedding_State.READY;
}

/** Stores the rows from `first` on through the server. `pending` stores them without an embedding for now. */
export async function storeRows(
  client: MemoryClient,
  rows: Rows,
  first: number,
): Promise<{ readonly load: LoadResult; readonly pending: number }> {
  let pending = 0;
  const load = await measureLoad({
    callers: STORE_CALLERS,
    calls: rows.count - first,
    call: async (n) => {
      if (!(await storeRow(client, rows, first + n))) pending++;
    },
  });
  return { load, pending };
}

/**
 * Writes the rows from `first` on, with their vectors, directly into an existing domain and then builds the vector
 * index. Intended for large numbers of rows, which take a server long to store.
 */
export async function insertRows(
  database: Database,
  { domain, count, texts }: Rows,
  first: number,
  vectorOf: (n: number) => Float32Array,
): Promise<{ readonly load: LoadResult; readonly indexSeconds: number }> {
  const repository = createPostgresRepository(database);
  const record = await repository.findDomain(domain);
  const version = record?.embeddingVersion;
  if (record?.dimensions === undefined || version === undefined) {
    throw new Error(`domain ${domain} has no embedding version yet`);
  }
  await database.execute(`drop index if exists "${domain}_memories_embedding_idx"`);
  const load = await measureLoad({
    callers: database.engine === "postgres" ? 8 : 1,
    calls: count - first,
    call: (call) => {
      const n = first + call;
      const content = texts.memory(n);
      return repository.insert(domain, {
        id: `m${n}`,
        content,
        ...extras(texts, n),
        importance: undefined,
        expiry: { kind: "never" },
        chunkCount: 1,
        embedding: { version, chunks: [{ start: 0, end: content.length, vector: vectorOf(n) }] },
        leaseMs: 0,
      });
    },
  });
  const start = performance.now();
  await database.session(async (session) => {
    await session.execute("set statement_timeout = 0");
    await session.execute(`select set_domain_embedding_storage('${domain}', ${record.dimensions})`);
  });
  return { load, indexSeconds: (performance.now() - start) / 1_000 };
}

/** Equal shares of the rows, independent of their content. */
export const SLOTS = 1_000;

export function slotOf(n: number): number {
  return (n * 7_919) % SLOTS;
}

function extras(texts: TextSource, n: number) {
  return { source: "bench", tags: [texts.topic(n)], metadata: { slot: slotOf(n) } };
}
