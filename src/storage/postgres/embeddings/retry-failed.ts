import type { RetryStep } from "../../../memory/model/embedding-queue.ts";
import type { Filter } from "../../../memory/model/filter.ts";
import type { Parameter, Queryable, QueryOptions } from "../../database/database.ts";
import { domainTables } from "../domains/domain-tables.ts";
import { isMatching } from "../search/compile-filter.ts";

/** Makes the next failed memories that match pending and due at once. Uses the partial index on failed memories. */
export async function retryFailed(
  database: Queryable,
  domain: string,
  step: { readonly filter: Filter | undefined; readonly after: string | undefined; readonly limit: number },
  options?: QueryOptions,
): Promise<RetryStep> {
  const { memories } = domainTables(domain);
  const parameters: Parameter[] = [step.after ?? null];
  const condition = `m.embedding_state = 'failed' and ${isMatching(step.filter, parameters, "m")}`;
  const [row] = await database.query<{ retried: bigint; last: string | null }>(
    {
      writes: true,
      text: `with failed as materialized (
          select m.id from ${memories} m
          where ($1::text is null or m.id > $1::text) and ${condition}
          order by m.id
          limit ${Math.trunc(step.limit)}
        ), locked as materialized (
          select m.id from ${memories} m where m.id in (select id from failed) order by m.id for update
        ), retried as (
          update ${memories} m set
            embedding_state = 'pending', embedding_error = null, embedding_attempts = 0, embed_after = now()
          from locked where m.id = locked.id and ${condition}
          returning m.id
        )
        select (select count(*) from retried) as retried, (select max(id) from failed) as last`,
    },
    parameters,
    options,
  );
  return { retried: row?.retried ?? 0n, last: row?.last ?? undefined };
}
