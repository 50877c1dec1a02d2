import type { Filter } from "../../../memory/model/filter.ts";
import type { Parameter, Queryable, QueryOptions } from "../../database/database.ts";
import { domainTables } from "../domains/domain-tables.ts";
import { isMatching } from "./compile-filter.ts";

/** This many rows distinguish 1 % from 2 % and take about two milliseconds in a domain of any size. */
const SAMPLED_ROWS = 1_000;

/**
 * Estimates the share of a domain's memories that match the filter, 0 to 1, from a sample of its pages. The planner's estimate
 * does not help: without statistics it assumes that half of all rows match.
 *
 * @param memories Approximate number of memories in the domain.
 */
export async function estimateShare(
  database: Queryable,
  domain: string,
  filter: Filter,
  memories: number,
  options?: QueryOptions,
): Promise<number> {
  const percent = Math.min(100, (100 * SAMPLED_ROWS) / Math.max(memories, 1));
  const parameters: Parameter[] = [percent];
  const condition = isMatching(filter, parameters, "m");
  const [sample] = await database.query<{ matching: number; seen: number }>(
    {
      // The sample is repeatable, so that equal searches run the same way.
      text: `select (count(*) filter (where ${condition}))::float8 as matching, count(*)::float8 as seen
        from ${domainTables(domain).memories} m tablesample system ($1::real) repeatable (0)`,
    },
    parameters,
    options,
  );
  return sample === undefined || sample.seen === 0 ? 0 : sample.matching / sample.seen;
}
