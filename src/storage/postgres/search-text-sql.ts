import { CANDIDATE_DEPTH } from "../../memory/rank.ts";
import type { Parameter, Queryable, QueryOptions, Row } from "../database/database.ts";
import type { Candidate } from "../memory-repository.ts";
import { B, chooseTerms, inverseDocumentFrequency, K1, type Term } from "./bm25.ts";
import { domainTables } from "./domain-tables.ts";
import { type FindByText, isUsual, type ParsedTextQuery, textConditions } from "./search-text.ts";

/**
 * Memories that are ranked, at most, unless a filter or a great depth needs more: those with the rarest words of the
 * query. At 100,000 memories of 28 words it costs 45 ms (p50) and finds .98 of the top 10 of ranking all, which takes
 * 120 ms to 740 ms.
 */
const BUDGET = 5_000;
/** Lexemes that these may have, together: long memories take longer to rank. */
const LEXEME_BUDGET = 75_000;
/** Even of long memories so many are ranked. */
const MIN_BUDGET = 1_000;
/** If the conditions of a search leave too few of them, it is repeated with so many times more. */
const WIDEN = 8;

/** What the statistics say of a query. */
interface Corpus {
  readonly terms: readonly Term[];
  readonly memories: number;
  readonly averageLength: number;
}

/** Ranks by BM25 over the GIN index, in two steps: how frequent the words are, then the memories with the rarest. */
export const findByBm25Sql: FindByText = async (database, domain, query, options) => {
  const corpus = await readCorpus(database, domain, query.words, options);
  if (corpus.terms.length === 0) return { candidates: [], exhausted: true };
  const affordable = Math.min(BUDGET, LEXEME_BUDGET / Math.max(1, corpus.averageLength));
  for (let budget = Math.max(query.depth, MIN_BUDGET, Math.trunc(affordable)); ; budget *= WIDEN) {
    const choice = chooseTerms(corpus.terms, budget);
    const candidates = await rank(database, domain, query, corpus, choice, options);
    const filled = candidates.length >= query.depth;
    if (filled || choice.partial === undefined) return { candidates, exhausted: !filled };
  }
};

interface TermRow extends Row {
  readonly lexeme: string;
  readonly occurrences: number;
  readonly documents: number;
  readonly memories: number;
  readonly average_length: number;
}

/**
 * The lexemes of the query with the number of memories that have them: by the statistics for frequent ones, counted for
 * rare ones. A domain that has no statistics is small, and everything is counted.
 */
async function readCorpus(
  database: Queryable,
  domain: string,
  words: string,
  options?: QueryOptions,
): Promise<Corpus> {
  const { memories } = domainTables(domain);
  const rows = await database.query<TermRow>(
    {
      name: `text_terms:${domain}`,
      text: `with corpus as materialized (
          select d.id,
            coalesce(s.memories, (select count(*) from ${memories}))::float8 as memories,
            coalesce(s.average_length, (select avg(length(text_vector)) from ${memories}), 0)::float8 as average_length
          from memory_domains d left join memory_text_statistics s on s.domain_id = d.id
          where d.name = $1
        )
        select l.lexeme, l.occurrences, c.memories, c.average_length,
          coalesce(
            f.share * c.memories,
            (select count(*) from ${memories} m where m.text_vector @@ memory_lexeme_query(array[l.lexeme]))
          )::float8 as documents
        from memory_domain_lexemes($1, $2) l
        cross join corpus c
        left join memory_lexeme_statistics f on f.domain_id = c.id and f.lexeme = l.lexeme`,
    },
    [domain, words],
    options,
  );
  const [first] = rows;
  const count = first?.memories ?? 0;
  return {
    memories: count,
    averageLength: Math.max(1, first?.average_length ?? 1),
    terms: rows
      .filter(({ documents }) => documents > 0)
      .map(({ lexeme, occurrences, documents }) => ({
        lexeme,
        documents,
        weight: occurrences * inverseDocumentFrequency(documents, count),
      })),
  };
}

async function rank(
  database: Queryable,
  domain: string,
  query: ParsedTextQuery,
  { terms, averageLength }: Corpus,
  choice: ReturnType<typeof chooseTerms>,
  options?: QueryOptions,
): Promise<Candidate[]> {
  const { memories } = domainTables(domain);
  const parameters: Parameter[] = [
    choice.whole,
    choice.partial === undefined ? [] : [choice.partial.lexeme],
    choice.partial?.limit ?? 0,
    terms.map(({ lexeme }) => lexeme),
    terms.map(({ weight }) => weight),
    averageLength,
  ];
  const conditions = textConditions(domain, query, parameters, "m");
  const rows = await database.query<{ id: string; score: number }>(
    {
      ...(isUsual(query, CANDIDATE_DEPTH) ? { name: `text_sql:${domain}` } : {}),
      // The length of a memory is the number of its different lexemes: that is at hand, and ranks as well.
      text: `with query as materialized (
          select memory_lexeme_query($1::text[]) as whole, memory_lexeme_query($2::text[]) as part
        ), candidates as (
          (
            select m.id, m.text_vector
            from ${memories} m
            where m.text_vector @@ (select whole from query) and ${conditions}
          )
          union all
          (
            select m.id, m.text_vector
            from ${memories} m
            where m.text_vector @@ (select part from query)
              and (m.text_vector @@ (select whole from query)) is not true and ${conditions}
            limit $3
          )
        )
        select c.id, sum(
            t.weight * cardinality(w.positions) * ${K1 + 1}
            / (cardinality(w.positions) + ${K1} * (1 - ${B} + ${B} * length(c.text_vector) / $6::float8))
          )::float8 as score
        from candidates c
        cross join lateral unnest(c.text_vector) w
        join unnest($4::text[], $5::float8[]) as t (lexeme, weight) on t.lexeme = w.lexeme
        group by c.id
        order by score desc, c.id
        limit ${query.depth}`,
    },
    parameters,
    options,
  );
  return rows.map(({ id, score }) => ({ id, score, chunkIndex: undefined }));
}
