import { CANDIDATE_DEPTH } from "../../memory/rank.ts";
import type { Parameter } from "../database/database.ts";
import { domainTables } from "./domain-tables.ts";
import { type FindByText, isUsual, textConditions } from "./search-text.ts";

/** Ranks by the BM25 index of pg_textsearch, over the lexemes of `text_vector`. Its scores are negative. */
export const findByBm25Index: FindByText = async (database, domain, query, options) => {
  const { memories, bm25IndexName } = domainTables(domain);
  const parameters: Parameter[] = [domain, query.words];
  const conditions = textConditions(domain, query, parameters, "m");
  const distance = `memory_lexeme_text(m.text_vector) <@> to_bm25query((select words from query), '${bm25IndexName}')`;
  const rows = await database.query<{ id: string; score: number }>(
    {
      ...(isUsual(query, CANDIDATE_DEPTH) ? { name: `text_index:${domain}` } : {}),
      // Where the planner leaves the index, as it does for a rare condition, rows that match nothing have a score of 0.
      text: `with query as materialized (
          select coalesce(string_agg(repeat(lexeme || ' ', occurrences), ''), '') as words
          from memory_domain_lexemes($1, $2)
        )
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
  return {
    candidates: rows.map(({ id, score }) => ({ id, score, chunkIndex: undefined })),
    exhausted: rows.length < query.depth,
  };
};
