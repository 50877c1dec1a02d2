import pg from "pg";
import { vectorBytes } from "../src/storage/database/wire-values.ts";
import { domainTables } from "../src/storage/postgres/domains/domain-tables.ts";
import { type LoadResult, measureLoad } from "./measure.ts";

/** A way to query the vector index without the server. */
export interface RawQuery {
  readonly label: string;
  readonly limit: number;
  readonly efSearch: number;
}

/** The search depth of the server, and that of a program that only wants ten hits (pgvector's default). */
export const RAW_QUERIES: readonly RawQuery[] = [
  { label: "raw pool, 100 nearest", limit: 100, efSearch: 200 },
  { label: "raw pool, 10 nearest", limit: 10, efSearch: 40 },
];

/** Measures a plain `pg` pool on the same table, as the baseline for the overhead of the server. */
export async function measureRawPool(
  url: string,
  domain: string,
  query: RawQuery,
  vectors: readonly Float32Array[],
  load: { readonly callers: number; readonly seconds: number },
): Promise<LoadResult> {
  const options = `-c hnsw.ef_search=${query.efSearch} -c hnsw.iterative_scan=relaxed_order`;
  const pool = new pg.Pool({ connectionString: url, max: load.callers, options });
  const text = `select id, embedding <=> $1::vector as distance from ${domainTables(domain).memories}
    order by embedding <=> $1::vector limit ${query.limit}`;
  const parameters = vectors.map((vector) => Buffer.from(vectorBytes(vector)));
  const call = (n: number) =>
    pool.query({ name: "nearest", text, values: [parameters[n % parameters.length]] });
  try {
    await measureLoad({ callers: load.callers, calls: vectors.length, call });
    return await measureLoad({ ...load, call });
  } finally {
    await pool.end();
  }
}
