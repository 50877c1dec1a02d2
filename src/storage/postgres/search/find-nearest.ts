import type { Candidate, SemanticQuery } from "../../../memory/model/search-index.ts";
import type { Parameter, Queryable, QueryOptions } from "../../database/database.ts";
import { domainTables, isAlive } from "../domains/domain-tables.ts";
import { compileFilter, isMatching } from "./compile-filter.ts";
import { PREPARED_DEPTH } from "./prepared-depth.ts";

/** How to find the nearest embeddings: by exact search, or through the vector indexes. */
export type Scan = ExactScan | IndexScan;

export interface ExactScan {
  readonly kind: "exact";
  /** Whether few memories match the filter, so that using an index for the filter pays off. */
  readonly selective: boolean;
}

export interface IndexScan {
  readonly kind: "index";
  /** `hnsw.ef_search`, 1 to 1,000. A larger value increases recall and time. */
  readonly efSearch: number;
  /** `hnsw.max_scan_tuples`: the scan ends after visiting this many tuples. */
  readonly maxTuples: number;
}

export interface NearestMemories {
  /** Best first, each memory once with its best chunk; at most `depth` of them. */
  readonly candidates: Candidate[];
  /** Whether the search found `depth` memories, before `minSimilarity` removed any. */
  readonly filled: boolean;
  /** Whether `minSimilarity` removed some. All memories that the search did not visit are even less similar. */
  readonly cut: boolean;
}

/**
 * The chunks of a few long memories may use up the limit of further chunks, so that the chunks of other memories are missing.
 * The search then repeats with a limit that is larger by this factor.
 */
const GROWTH_FACTOR = 16;
/** Maximum limit of further chunks: about the chunks of three books. */
const MAX_CHUNK_LIMIT = 5_000;

/** Memory id, chunk index, cosine distance; false: a chunk of a memory that has expired. */
type NearestChunk = readonly [id: string, chunkIndex: number, distance: number, alive: boolean];

/** Finds the nearest memories, each by the nearest of its chunks. */
export async function findNearest(
  database: Pick<Queryable, "query">,
  domain: string,
  query: SemanticQuery,
  scan: Scan,
  options?: QueryOptions,
): Promise<NearestMemories> {
  const depth = Math.trunc(query.depth);
  const minScore = query.minSimilarity ?? -1;
  for (let chunkLimit = depth; ; chunkLimit = Math.min(chunkLimit * GROWTH_FACTOR, MAX_CHUNK_LIMIT)) {
    const chunks = await findChunks(database, domain, query, scan, { memories: depth, chunkLimit }, options);
    const all = bestChunks(chunks.filter(([, , , alive]) => alive));
    const bounds = { depth, chunkLimit, minScore };
    if (chunkLimit < MAX_CHUNK_LIMIT && isStarvedByLongMemories(chunks, all, bounds)) continue;
    const found = all.slice(0, depth);
    const candidates = found.filter(({ score }) => score >= minScore);
    return { candidates, filled: found.length >= depth, cut: candidates.length < found.length };
  }
}

/**
 * Returns whether fewer than half of the requested memories, or of all memories, are at least as near as the last of the further
 * chunks. With "fewer than requested", the search would run twice in every domain of long memories.
 */
function isStarvedByLongMemories(
  chunks: readonly NearestChunk[],
  found: readonly Candidate[],
  bounds: { readonly depth: number; readonly chunkLimit: number; readonly minScore: number },
): boolean {
  const further = chunks.filter(([, chunkIndex]) => chunkIndex > 0);
  if (further.length < bounds.chunkLimit) return false;
  const last = further.reduce((least, [, , distance]) => Math.min(least, 1 - distance), 1);
  const wanted = Math.min(bounds.depth, chunks.length - further.length);
  return last >= bounds.minScore && found.filter(({ score }) => score >= last).length < wanted / 2;
}

interface Depths {
  /** Maximum number of memories, by their first chunk. */
  readonly memories: number;
  /** Maximum number of further chunks. */
  readonly chunkLimit: number;
}

/**
 * Finds the nearest first chunks and the nearest further chunks. The depths are part of the text instead of parameters,
 * because a generic plan would not know that they are small and would sort the whole table.
 *
 * All results arrive in one row. On the embedded engine, one row for each would add a fifth to the time of the search.
 */
async function findChunks(
  database: Pick<Queryable, "query">,
  domain: string,
  query: SemanticQuery,
  scan: Scan,
  depths: Depths,
  options?: QueryOptions,
): Promise<NearestChunk[]> {
  const parameters: Parameter[] = [query.embedding, query.embeddingVersion];
  const nearest =
    scan.kind === "exact"
      ? exactly(domain, query, scan, depths, parameters)
      : byIndex(domain, query, scan, depths, parameters);
  // With a filter the text differs every time, and preparing it would fill the connections with statements.
  const isCommonDepth = depths.memories === PREPARED_DEPTH && depths.chunkLimit === PREPARED_DEPTH;
  const named = query.filter === undefined && scan.kind === "index" && isCommonDepth;
  const [row] = await database.query<{ found: NearestChunk[] | null }>(
    {
      ...(named ? { name: `nearest:${domain}` } : {}),
      text: `with ${nearest} select json_agg(chunk) as found
        from (
          select json_build_array(n.id, 0, n.distance, true) as chunk from nearest n
          union all
          select json_build_array(c.memory_id, c.chunk_index, c.distance,
            exists (select from ${domainTables(domain).memories} m where m.id = c.memory_id and ${isAlive("m")}))
          from nearest_chunks c
        ) chunks`,
    },
    parameters,
    options,
  );
  return row?.found ?? [];
}

/**
 * Builds the search through the vector indexes.
 *
 * The condition on the version is written so that no index can serve it: without statistics, the planner assumes that the
 * version is rare, and would read and sort the whole table. The filter is inside a `case` for the same reason, since its
 * selectivity is already known.
 */
function byIndex(
  domain: string,
  query: SemanticQuery,
  scan: IndexScan,
  depths: Depths,
  parameters: Parameter[],
): string {
  const { memories, chunks } = domainTables(domain);
  const set = settings(scan, parameters);
  const filter = query.filter && compileFilter(query.filter, parameters, "m");
  const passes = filter === undefined ? "" : `and case when ${filter} then true else false end`;
  // With a scalar subquery instead of a join, the planner keeps the order of the index and stops early.
  const memoryPasses =
    filter === undefined ? "" : `and (select ${filter} from ${memories} m where m.id = c.memory_id)`;
  return `nearest as materialized (
      select m.id, m.embedding <=> $1::vector as distance
      from ${memories} m
      where ${set} and (m.embedding_version = $2) is true and ${isAlive("m")} ${passes}
      order by m.embedding <=> $1::vector
      limit ${depths.memories}
    ), nearest_chunks as materialized (
      select c.memory_id, c.chunk_index, c.embedding <=> $1::vector as distance
      from ${chunks} c
      where ${set} and c.embedding_version = $2 ${memoryPasses}
      order by c.embedding <=> $1::vector
      limit ${depths.chunkLimit}
    )`;
}

/** Builds the exact search. It orders by an expression without a vector index, so it compares all memories that match. */
function exactly(
  domain: string,
  query: SemanticQuery,
  scan: ExactScan,
  depths: Depths,
  parameters: Parameter[],
): string {
  const { memories, chunks } = domainTables(domain);
  const condition = isMatching(query.filter, parameters, "m", scan);
  return `nearest as materialized (
      select m.id, m.embedding <=> $1::vector as distance
      from ${memories} m
      where m.embedding_version = $2 and ${condition}
      order by (m.embedding <=> $1::vector) + 0
      limit ${depths.memories}
    ), nearest_chunks as materialized (
      select c.memory_id, c.chunk_index, c.embedding <=> $1::vector as distance
      from ${chunks} c join ${memories} m on m.id = c.memory_id
      where c.embedding_version = $2 and ${condition}
      order by (c.embedding <=> $1::vector) + 0
      limit ${depths.chunkLimit}
    )`;
}

/**
 * Applies the settings of the index scan to this statement only, which is its own transaction. PostgreSQL runs a subquery
 * without columns of the table once, before the scan starts. `set local` in an explicit transaction costs a fifth of the throughput.
 */
function settings(scan: IndexScan, parameters: Parameter[]): string {
  const set = (name: string, value: number) =>
    `(select set_config('${name}', $${parameters.push(String(value))}, true)) is not null`;
  return `${set("hnsw.ef_search", scan.efSearch)} and ${set("hnsw.max_scan_tuples", scan.maxTuples)}`;
}

/** Returns each memory once, with its nearest chunk. Ties are ordered by id, so that equal searches return equal answers. */
function bestChunks(chunks: readonly NearestChunk[]): Candidate[] {
  const best = new Map<string, Candidate>();
  for (const [id, chunkIndex, distance] of chunks) {
    const known = best.get(id);
    if (known === undefined || 1 - distance > known.score)
      best.set(id, { id, score: 1 - distance, chunkIndex });
  }
  return [...best.values()].sort((a, b) => b.score - a.score || (a.id < b.id ? -1 : 1));
}
