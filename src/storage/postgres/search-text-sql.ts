import { CANDIDATE_DEPTH } from "../../memory/rank.ts";
import type { Parameter, Queryable, QueryOptions, Row } from "../database/database.ts";
import type { Candidate } from "../memory-repository.ts";
import { B, chooseTerms, inverseDocumentFrequency, K1, MIN_LENGTH, type Term } from "./bm25.ts";
import { domainTables } from "./domain-tables.ts";
import { type FindByText, isUsual, type ParsedTextQuery, textConditions } from "./search-text.ts";

/**
 * How many memories are looked at, unless a filter or a great depth needs more: those with the rarest words of the
 * query, 25 times the root of all memories. Of 10,000 memories 2,500 have the same top 10 as all that match; of 100,000
 * memories 7,900 have .956 of it (6,300: .937; 9,500: .978 in twice the time), p95 74 ms on a busy machine.
 */
const BUDGET_FACTOR = 25;
const MIN_BUDGET = 1_000;
const MAX_BUDGET = 20_000;
/**
 * Of those, so many for each that is asked for are ranked exactly: the best if each word occurred once. To read how often
 * it does takes all words of a memory apart (4,000 memories of 19 different words: 28 ms, against 8 ms for this).
 */
const EXACT_FACTOR = 4;
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
  const usual = Math.min(MAX_BUDGET, Math.max(MIN_BUDGET, BUDGET_FACTOR * Math.sqrt(corpus.memories)));
  for (let budget = Math.max(query.depth, Math.trunc(usual)); ; budget *= WIDEN) {
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
            coalesce(
              s.average_length,
              (select avg(greatest(length(text_vector), ${MIN_LENGTH})) from ${memories}),
              0
            )::float8 as average_length
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
        ), terms as materialized (
          select lexeme, weight, memory_lexeme_query(array[lexeme]) as query
          from unnest($4::text[], $5::float8[]) as t (lexeme, weight)
        ), sized as (
          select id, text_vector,
            ${K1} * (1 - ${B} + ${B} * greatest(length(text_vector), ${MIN_LENGTH}) / $6::float8) as saturation
          from candidates
        ), best as materialized (
          select s.*
          from sized s
          order by (select sum(t.weight) from terms t where s.text_vector @@ t.query) / (1 + s.saturation) desc
          limit ${EXACT_FACTOR * query.depth}
        )
        select b.id, sum(
            t.weight * cardinality(w.positions) * ${K1 + 1} / (cardinality(w.positions) + b.saturation)
          )::float8 as score
        from best b
        cross join lateral unnest(b.text_vector) w
        join terms t on t.lexeme = w.lexeme
        group by b.id
        order by score desc, b.id
        limit ${query.depth}`,
    },
    parameters,
    options,
  );
  return rows.map(({ id, score }) => ({ id, score, chunkIndex: undefined }));
}
