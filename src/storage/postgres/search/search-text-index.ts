import type { Parameter, Queryable, QueryOptions } from "../../database/database.ts";
import { domainTables } from "../domains/domain-tables.ts";
import { isPreparable, type RankByText, type RankedTextQuery, textConditions } from "./text-ranking.ts";

/** Memory id and BM25 score; what the index calls a distance is the score below 0. */
type Scored = readonly [id: string, score: number];

/** Ranks by the BM25 index of pg_textsearch, over the lexemes of `text_vector`. */
export const rankByBm25Index: RankByText = async (database, domain, query, options) => {
  const usual = isPreparable(query);
  const found =
    (usual ? await scoredByScan(database, domain, query, options) : undefined) ??
    (await scoredOneByOne(database, domain, query, options));
  return {
    candidates: found.map(([id, score]) => ({ id, score, chunkIndex: undefined })),
    exhausted: found.length < query.depth,
  };
};

/** The words of the question, each as often as it occurs, as a query of the index. */
const QUERY = `query as materialized (
    select coalesce(string_agg(repeat(lexeme || ' ', occurrences), ''), '') as words
    from memory_domain_lexemes($1, $2)
  )`;

function distanceTo(domain: string, alias: string): string {
  const { bm25IndexName } = domainTables(domain);
  return `memory_lexeme_text(${alias}.text_vector) <@> to_bm25query((select words from query), '${bm25IndexName}')`;
}

/**
 * With the scores that the scan of the index leaves behind: scoring 100 rows one by one costs three times as much as
 * finding them (10,000 rows, embedded: 9.2 ms instead of 2.5). Where the planner does not scan the index, these scores are
 * those of some earlier search; the first and the last are therefore compared with what they should be.
 *
 * @returns undefined if they are not.
 */
async function scoredByScan(
  database: Queryable,
  domain: string,
  query: RankedTextQuery,
  options: QueryOptions | undefined,
): Promise<Scored[] | undefined> {
  const { memories } = domainTables(domain);
  const parameters: Parameter[] = [domain, query.words];
  const conditions = textConditions(domain, query, parameters, "m");
  const distance = distanceTo(domain, "m");
  const [row] = await database.query<{ found: Scored[] | null; checks: number[] | null }>(
    {
      name: `text_index:${domain}`,
      // The scan is no common table expression: there, the extension would score each row once more.
      text: `with ${QUERY}
        select list as found, (
          select json_agg(-(${distance}) order by ends.position)
          from (values (0, list -> 0 ->> 0), (1, list -> -1 ->> 0)) as ends (position, id)
          join ${memories} m on m.id = ends.id
        ) as checks
        from (
          select json_agg(json_build_array(id, -distance)) as list
          from (
            select m.id, bm25_get_current_score() as distance
            from ${memories} m
            where ${conditions}
            order by ${distance}
            limit ${query.depth}
          ) as nearest
        ) as found`,
    },
    parameters,
    options,
  );
  const found = row?.found ?? [];
  const ends = [found[0], found.at(-1)];
  const agree = ends.every((end, n) => end === undefined || isClose(end[1], row?.checks?.[n]));
  return agree ? found : undefined;
}

/** The index keeps scores in single precision. */
function isClose(score: number, exact: number | undefined): boolean {
  return exact !== undefined && Math.abs(score - exact) <= 1e-4 * Math.abs(exact);
}

async function scoredOneByOne(
  database: Queryable,
  domain: string,
  query: RankedTextQuery,
  options: QueryOptions | undefined,
): Promise<Scored[]> {
  const { memories } = domainTables(domain);
  const parameters: Parameter[] = [domain, query.words];
  const conditions = textConditions(domain, query, parameters, "m");
  const distance = distanceTo(domain, "m");
  const rows = await database.query<{ id: string; score: number }>(
    {
      // Where the planner leaves the index, as it does for a rare condition, rows that match nothing have a score of 0.
      text: `with ${QUERY}
        select id, -distance as score
        from (
          select m.id, ${distance} as distance
          from ${memories} m
          where ${conditions}
          order by ${distance}
          limit ${query.depth}
        ) as nearest
        where distance < 0
        order by score desc, id`,
    },
    parameters,
    options,
  );
  return rows.map(({ id, score }) => [id, score]);
}
