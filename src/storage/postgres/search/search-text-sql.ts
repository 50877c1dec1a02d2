import type { Candidate } from "../../../memory/model/search-index.ts";
import type { Parameter, Queryable, QueryOptions, Row } from "../../database/database.ts";
import { domainTables } from "../domains/domain-tables.ts";
import { B, chooseTerms, inverseDocumentFrequency, K1, MIN_LENGTH, type Term } from "./bm25.ts";
import { isPreparable, type RankByText, type RankedTextQuery, textConditions } from "./text-ranking.ts";

/**
 * Number of matches to consider, unless a filter or a large depth needs more: 0.79 n^0.8 of n memories, from the rarest words
 * of the query. With 10,000 memories, 1,250 matches contain .997 of the exact top 10; with 100,000 memories, 7,900 matches contain
 * .990 (5,000: .967). They take 5 and 30 ms of PostgreSQL's time.
 */
const BUDGET = { factor: 0.79, exponent: 0.8, min: 1_000, max: 20_000 } as const;
/** Matches ranked by all words of the query, per requested candidate. They are the best by the rare words. */
const RANKED_FACTOR = 2;
/** If the conditions of a search leave too few matches, it repeats with a budget that is larger by this factor. */
const GROWTH_FACTOR = 8;

/** The statistics for a query. */
interface Corpus {
  readonly terms: readonly Term[];
  readonly memories: number;
  readonly averageLength: number;
}

/** Ranks by BM25 on the GIN index in two steps: first the frequencies of the words, then the memories with the rarest ones. */
export const rankByBm25Sql: RankByText = async (database, domain, query, options) => {
  const corpus = await readCorpus(database, domain, query.words, options);
  if (corpus.terms.length === 0) return { candidates: [], exhausted: true };
  const grown = BUDGET.factor * corpus.memories ** BUDGET.exponent;
  const initial = Math.min(BUDGET.max, Math.max(BUDGET.min, grown));
  for (let budget = Math.max(query.depth, Math.trunc(initial)); ; budget *= GROWTH_FACTOR) {
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
 * Reads the lexemes of the query with the number of memories that contain them: from the statistics for frequent lexemes, by
 * counting for rare ones. A domain without statistics is small, and everything is counted.
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

/**
 * Returns SQL for the frequency of a lexeme in a memory. `ts_rank` adds 0.1 / i^2 for each occurrence i and divides by pi^2 / 6;
 * the remainder to 0.1 is nearly 1 / (frequency + 1/2) of that. The result is exact after rounding for all of the 255 positions
 * that PostgreSQL keeps. Unnesting the words of a memory costs ten times as much.
 */
function termFrequency(textVector: string, lexeme: string): string {
  return `round(1 / (${Math.PI ** 2 / 6} * (1 - 10 * ts_rank(${textVector}, ${lexeme})))::float8 - 0.5)`;
}

async function rank(
  database: Queryable,
  domain: string,
  query: RankedTextQuery,
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
  const [row] = await database.query<{ found: Array<[id: string, score: number]> | null }>(
    {
      ...(isPreparable(query) ? { name: `text_sql:${domain}` } : {}),
      // One row for all results is cheaper than a row for each. The number of distinct lexemes stands for a memory's length: it is
      // available at no cost and ranks equally well.
      text: `with terms as materialized (
          select lexeme, weight, memory_lexeme_query(array[lexeme]) as query
          from unnest($4::text[], $5::float8[]) as t (lexeme, weight)
        ), matches as (
          select m.ctid as tid, t.weight, m.text_vector, t.query
          from terms t join ${memories} m on m.text_vector @@ t.query
          where t.lexeme = any($1::text[]) and ${conditions}
          union all
          (
            select m.ctid, t.weight, m.text_vector, t.query
            from terms t join ${memories} m on m.text_vector @@ t.query
            where t.lexeme = any($2::text[]) and ${conditions}
            limit $3
          )
        ), weighed as (
          select tid, weight, ${termFrequency("text_vector", "query")} as frequency,
            ${K1} * (1 - ${B} + ${B} * greatest(length(text_vector), ${MIN_LENGTH}) / $6::float8) as saturation
          from matches
        ), best as materialized (
          select tid, min(saturation) as saturation
          from weighed
          group by tid
          order by sum(weight * frequency / (frequency + saturation)) desc
          limit ${RANKED_FACTOR * query.depth}
        ), ranked as (
          select m.id, ${K1 + 1} * (
              select sum(t.weight * frequency / (frequency + b.saturation))
              from terms t cross join lateral (select ${termFrequency("m.text_vector", "t.query")} as frequency) f
            ) as score
          from best b join ${memories} m on m.ctid = b.tid
          order by score desc, m.id
          limit ${query.depth}
        )
        select json_agg(json_build_array(id, score) order by score desc, id) as found from ranked`,
    },
    parameters,
    options,
  );
  return (row?.found ?? []).map(([id, score]) => ({ id, score, chunkIndex: undefined }));
}
