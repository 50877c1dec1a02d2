import { CANDIDATE_DEPTH } from "../../memory/rank.ts";
import type { Queryable, QueryOptions, Row } from "../database/database.ts";
import type { Candidate, SemanticAnswer, SemanticQuery } from "../memory-repository.ts";
import { domainTables, isAlive } from "./domain-tables.ts";

interface NearestRow extends Row {
  readonly id: string;
  readonly chunk_index: number;
  readonly distance: number;
  /** False: a chunk of a memory that has expired. */
  readonly alive: boolean;
}

/**
 * The nearest chunk 0s and the nearest further chunks, each through its own vector index. The depth stands in the
 * text, not in a parameter: a generic plan would not know that it is small, and would sort the whole table.
 *
 * The version's condition is written so that its index cannot serve it: a planner without statistics takes the version
 * for rare, and reads and sorts the whole table.
 *
 * Chunks of expired memories are left out only after the nearest were found; they are gone at the next sweep.
 */
export async function findNearest(
  database: Queryable,
  domain: string,
  query: SemanticQuery,
  options?: QueryOptions,
): Promise<Omit<SemanticAnswer, "approximate">> {
  const { memories, chunks } = domainTables(domain);
  const depth = Math.trunc(query.depth);
  const rows = await database.query<NearestRow>(
    {
      ...(depth === CANDIDATE_DEPTH ? { name: `nearest:${domain}` } : {}),
      text: `with nearest as materialized (
          select m.id, m.embedding <=> $1::vector as distance
          from ${memories} m
          where (m.embedding_version = $2) is true and ${isAlive("m")}
          order by m.embedding <=> $1::vector
          limit ${depth}
        ), nearest_chunks as materialized (
          select c.memory_id, c.chunk_index, c.embedding <=> $1::vector as distance
          from ${chunks} c
          where c.embedding_version = $2
          order by c.embedding <=> $1::vector
          limit ${depth}
        )
        select id, 0 as chunk_index, distance, true as alive from nearest
        union all
        select c.memory_id, c.chunk_index, c.distance,
          exists (select from ${memories} m where m.id = c.memory_id and ${isAlive("m")})
        from nearest_chunks c`,
    },
    [query.embedding, query.embeddingVersion],
    options,
  );
  const nearest = bestChunks(rows.filter((row) => row.alive));
  const candidates = nearest.slice(0, depth).filter(({ score }) => score >= (query.minSimilarity ?? -1));
  // Below the threshold, or with fewer rows from each scan than it may give, there is nothing more to find.
  const firstChunks = rows.filter((row) => row.chunk_index === 0).length;
  const exhausted =
    candidates.length < Math.min(nearest.length, depth) ||
    Math.max(firstChunks, rows.length - firstChunks) < depth;
  return { candidates, exhausted };
}

/** Each memory once, with its nearest chunk; ties by id, so that equal searches give equal answers. */
function bestChunks(rows: readonly NearestRow[]): Candidate[] {
  const best = new Map<string, NearestRow>();
  for (const row of rows) {
    const known = best.get(row.id);
    if (known === undefined || row.distance < known.distance) best.set(row.id, row);
  }
  return [...best.values()]
    .sort((a, b) => a.distance - b.distance || (a.id < b.id ? -1 : 1))
    .map((row) => ({ id: row.id, score: 1 - row.distance, chunkIndex: row.chunk_index }));
}
