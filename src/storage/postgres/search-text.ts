import { CANDIDATE_DEPTH } from "../../memory/rank.ts";
import type { Parameter, Queryable, QueryOptions } from "../database/database.ts";
import type { Candidate, TextQuery } from "../memory-repository.ts";
import { isMatching } from "./compile-filter.ts";
import { domainTables } from "./domain-tables.ts";

/** ts_rank divides by 1 + the logarithm of the length: long memories do not win by length alone. */
const NORMALISE_BY_LOG_LENGTH = 1;

/** The memories that contain any lexeme of the query, ranked by ts_rank. */
export async function findByText(
  database: Queryable,
  domain: string,
  query: TextQuery,
  options?: QueryOptions,
): Promise<Candidate[]> {
  const { memories } = domainTables(domain);
  const depth = Math.trunc(query.depth);
  const parameters: Parameter[] = [domain, query.query];
  const named = query.filter === undefined && depth === CANDIDATE_DEPTH;
  const rows = await database.query<{ id: string; score: number }>(
    {
      ...(named ? { name: `text:${domain}` } : {}),
      text: `with query as materialized (select memory_domain_text_query($1, $2) as words)
        select m.id, ts_rank(m.text_vector, query.words, ${NORMALISE_BY_LOG_LENGTH})::float8 as score
        from query, ${memories} m
        where m.text_vector @@ query.words and ${isMatching(query.filter, parameters, "m")}
        order by score desc, id
        limit ${depth}`,
    },
    parameters,
    options,
  );
  // Not a condition of the statement: it would rank every match twice (a quarter of the time at 100,000 rows).
  return rows
    .filter((row) => row.score >= (query.minScore ?? 0))
    .map((row) => ({ id: row.id, score: row.score, chunkIndex: undefined }));
}
