import type { Candidate, SemanticQuery } from "../../../memory/model/search-index.ts";
import type { Parameter, Queryable, QueryOptions } from "../../database/database.ts";
import { domainTables, isAlive } from "../domains/domain-tables.ts";
import { compileFilter, isMatching } from "./compile-filter.ts";
import { PREPARED_DEPTH } from "./prepared-depth.ts";

/** How the nearest are looked for: by comparing all that match, or through the vector indexes. */
export type Scan = ExactScan | IndexScan;

export interface ExactScan {
  readonly kind: "exact";
  /** Whether few memories pass the filter, so that its own index is worth while. */
  readonly selective: boolean;
}

export interface IndexScan {
  readonly kind: "index";
  /** Candidates that it keeps in view: more make it find more of the nearest, and slower. 1 to 1,000. */
  readonly efSearch: number;
  /** It gives up after looking at so many. */
  readonly maxTuples: number;
}

export interface NearestMemories {
  /** Best first, each memory once with its best chunk; at most as many as asked for. */
  readonly candidates: Candidate[];
  /** True if there were as many as asked for, before `minSimilarity` dropped any. */
  readonly filled: boolean;
  /** True if `minSimilarity` has dropped some: what was not looked at is farther away still. */
  readonly cut: boolean;
}

/**
 * If the chunks of few long memories take all places of further chunks, those of others are missing behind them: then so
 * many times more are looked at ...
 */
const WIDEN = 16;
/** ... up to so many, the chunks of three books. */
const MAX_PLACES = 5_000;

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
  const leastScore = query.minSimilarity ?? -1;
  for (let places = depth; ; places = Math.min(places * WIDEN, MAX_PLACES)) {
    const chunks = await findChunks(database, domain, query, scan, { memories: depth, places }, options);
    const all = bestChunks(chunks.filter(([, , , alive]) => alive));
    if (places < MAX_PLACES && isCrowded(chunks, all, { depth, places, leastScore })) continue;
    const found = all.slice(0, depth);
    const candidates = found.filter(({ score }) => score >= leastScore);
    return { candidates, filled: found.length >= depth, cut: candidates.length < found.length };
  }
}

/**
 * Whether fewer than half of the memories asked for, or of all there are, lie before the last of the further chunks. Not
 * "fewer than asked for": then every domain of long memories would be searched twice.
 */
function isCrowded(
  chunks: readonly NearestChunk[],
  found: readonly Candidate[],
  bounds: { readonly depth: number; readonly places: number; readonly leastScore: number },
): boolean {
  const further = chunks.filter(([, chunkIndex]) => chunkIndex > 0);
  if (further.length < bounds.places) return false;
  const last = further.reduce((least, [, , distance]) => Math.min(least, 1 - distance), 1);
  const wanted = Math.min(bounds.depth, chunks.length - further.length);
  return last >= bounds.leastScore && found.filter(({ score }) => score >= last).length < wanted / 2;
}

interface Depths {
  readonly memories: number;
  /** Of further chunks. */
  readonly places: number;
}

/**
 * The nearest chunk 0s and the nearest further chunks. Depths stand in the text, not in parameters: a generic plan
 * would not know that they are small, and would sort the whole table.
 *
 * All come in one row: a row each would cost as much as a fifth of the search on the embedded engine.
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
  // A filter makes the text different every time: preparing it would fill the connections with statements.
  const usual = depths.memories === PREPARED_DEPTH && depths.places === PREPARED_DEPTH;
  const named = query.filter === undefined && scan.kind === "index" && usual;
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
 * The version's condition is written so that its index cannot serve it: a planner without statistics takes the version
 * for rare, and reads and sorts the whole table. The filter stands in a `case` for the same reason: whether it is rare
 * was found out before.
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
  // A scalar subquery and no join: the planner keeps the order of the index, and so stops early.
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
      limit ${depths.places}
    )`;
}

/** In the order of an expression that no vector index has: what the filter leaves is compared as a whole. */
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
      limit ${depths.places}
    )`;
}

/**
 * Sets the index scan's depth for this statement only, which is a transaction of its own: a subquery without columns of
 * the table is carried out once, before the scan begins. `set local` in an explicit transaction costs a fifth of the
 * throughput.
 */
function settings(scan: IndexScan, parameters: Parameter[]): string {
  const set = (name: string, value: number) =>
    `(select set_config('${name}', $${parameters.push(String(value))}, true)) is not null`;
  return `${set("hnsw.ef_search", scan.efSearch)} and ${set("hnsw.max_scan_tuples", scan.maxTuples)}`;
}

/** Each memory once, with its nearest chunk; ties by id, so that equal searches give equal answers. */
function bestChunks(chunks: readonly NearestChunk[]): Candidate[] {
  const best = new Map<string, Candidate>();
  for (const [id, chunkIndex, distance] of chunks) {
    const known = best.get(id);
    if (known === undefined || 1 - distance > known.score)
      best.set(id, { id, score: 1 - distance, chunkIndex });
  }
  return [...best.values()].sort((a, b) => b.score - a.score || (a.id < b.id ? -1 : 1));
}
