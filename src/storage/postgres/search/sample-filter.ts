import type { Filter } from "../../../memory/model/filter.ts";
import type { Parameter, Queryable, QueryOptions } from "../../database/database.ts";
import { domainTables } from "../domains/domain-tables.ts";
import { isMatching } from "./compile-filter.ts";

/** Tells 1 % from 2 % and costs two milliseconds or so, however large the domain is. */
const SAMPLED_ROWS = 1_000;

/**
 * The share of a domain's memories that pass the filter, from 0 to 1, by a sample of its pages. The planner's own
 * estimate is of no use here: it takes half of all rows to pass what it has no statistics for.
 *
 * @param memories roughly how many the domain has
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
      // Repeatable, so that equal searches are carried out alike.
      text: `select (count(*) filter (where ${condition}))::float8 as matching, count(*)::float8 as seen
        from ${domainTables(domain).memories} m tablesample system ($1::real) repeatable (0)`,
    },
    parameters,
    options,
  );
  return sample === undefined || sample.seen === 0 ? 0 : sample.matching / sample.seen;
}
