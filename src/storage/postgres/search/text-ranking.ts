import type { Filter } from "../../../memory/model/filter.ts";
import type { TextAnswer } from "../../../memory/model/search-index.ts";
import type { TextTerms } from "../../../memory/model/text-query.ts";
import type { Parameter, Queryable, QueryOptions } from "../../database/database.ts";
import { isMatching } from "./compile-filter.ts";
import { PREPARED_DEPTH } from "./prepared-depth.ts";

/** A way to rank memories by their text. All ways follow the same contract, with slightly different scores. */
export type RankByText = (
  database: Queryable,
  domain: string,
  query: RankedTextQuery,
  options?: QueryOptions,
) => Promise<Pick<TextAnswer, "candidates" | "exhausted">>;

export interface RankedTextQuery extends TextTerms {
  readonly depth: number;
  readonly filter: Filter | undefined;
}

/**
 * Returns the condition that a row of `memories` (under this alias) has not expired, matches the filter and satisfies the
 * operators of the query. The BM25 index supports neither phrases nor exclusion, and the ranking in SQL considers single words.
 */
export function textConditions(
  domain: string,
  query: RankedTextQuery,
  parameters: Parameter[],
  alias: string,
): string {
  const conditions = [isMatching(query.filter, parameters, alias)];
  if (query.required.length > 0 || query.excluded.length > 0) {
    const first = parameters.push(domain, query.required, query.excluded) - 2;
    const condition = `(select memory_domain_condition($${first}, $${first + 1}::text[], $${first + 2}::text[]))`;
    // The condition is null, and holds, if the operators contain only stop words.
    conditions.push(`(${alias}.text_vector @@ ${condition}) is not false`);
  }
  return conditions.join(" and ");
}

/** Returns whether the statement has the common form of its domain, which is worth preparing. */
export function isPreparable(query: RankedTextQuery): boolean {
  const { depth, filter, required, excluded } = query;
  return depth === PREPARED_DEPTH && filter === undefined && required.length === 0 && excluded.length === 0;
}
