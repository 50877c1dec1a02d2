import { CANDIDATE_DEPTH } from "../../memory/rank.ts";
import type { Queryable, QueryOptions } from "../database/database.ts";
import type { Candidate, SemanticAnswer, SemanticQuery } from "../memory-repository.ts";
import { domainTables, isAlive } from "./domain-tables.ts";

/** Memory id, chunk index, cosine distance; false: a chunk of a memory that has expired. */
type NearestChunk = readonly [id: string, chunkIndex: number, distance: number, alive: boolean];

/**
 * The nearest chunk 0s and the nearest further chunks, each through its own vector index. The depth stands in the
 * text, not in a parameter: a generic plan would not know that it is small, and would sort the whole table.
 *
 * The version's condition is written so that its index cannot serve it: a planner without statistics takes the version
 * for rare, and reads and sorts the whole table.
 *
 * All come in one row: a row each would cost as much as a fifth of the search on the embedded engine.
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
  const [row] = await database.query<{ found: NearestChunk[] | null }>(
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
        select json_agg(chunk) as found
        from (
          select json_build_array(n.id, 0, n.distance, true) as chunk from nearest n
          union all
          select json_build_array(c.memory_id, c.chunk_index, c.distance,
            exists (select from ${memories} m where m.id = c.memory_id and ${isAlive("m")}))
          from nearest_chunks c
        ) chunks`,
    },
    [query.embedding, query.embeddingVersion],
    options,
  );
  const found = row?.found ?? [];
  const nearest = bestChunks(found.filter(([, , , alive]) => alive));
  const candidates = nearest.slice(0, depth).filter(({ score }) => score >= (query.minSimilarity ?? -1));
  // Below the threshold, or with fewer rows from each scan than it may give, there is nothing more to find.
  const firstChunks = found.filter(([, chunkIndex]) => chunkIndex === 0).length;
  const exhausted =
    candidates.length < Math.min(nearest.length, depth) ||
    Math.max(firstChunks, found.length - firstChunks) < depth;
  return { candidates, exhausted };
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
