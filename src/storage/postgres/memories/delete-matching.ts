import type { Filter } from "../../../memory/model/filter.ts";
import type { DeletionStep, MatchingStep } from "../../../memory/model/memory-store.ts";
import type { Parameter, Queryable, QueryOptions } from "../../database/database.ts";
import { domainTables } from "../domains/domain-tables.ts";
import { isMatching } from "../search/compile-filter.ts";

/** Counts the memories that match. */
export async function countMatching(
  database: Queryable,
  domain: string,
  filter: Filter,
  options?: QueryOptions,
): Promise<bigint> {
  const parameters: Parameter[] = [];
  const condition = isMatching(filter, parameters, "m");
  const [row] = await database.query<{ count: bigint }>(
    { text: `select count(*) from ${domainTables(domain).memories} m where ${condition}` },
    parameters,
    options,
  );
  return row?.count ?? 0n;
}

/**
 * Deletes the next memories that match, with their chunks. They are ordered by id, so that no row is read twice, and
 * locked in this order, so that two calls cannot deadlock. A row that changed before it was locked is checked again.
 */
export async function deleteMatching(
  database: Queryable,
  domain: string,
  { filter, after, limit }: MatchingStep,
  options?: QueryOptions,
): Promise<DeletionStep> {
  const { memories } = domainTables(domain);
  const parameters: Parameter[] = [after ?? null];
  const condition = isMatching(filter, parameters, "m");
  const [row] = await database.query<{ matched: bigint; deleted: bigint; last: string | null }>(
    {
      writes: true,
      text: `with matching as materialized (
          select m.id from ${memories} m
          where ($1::text is null or m.id > $1::text) and ${condition}
          order by m.id
          limit ${Math.trunc(limit)}
        ), locked as materialized (
          select m.id from ${memories} m where m.id in (select id from matching) order by m.id for update
        ), deleted as (
          delete from ${memories} m using locked where m.id = locked.id and ${condition} returning m.id
        )
        select (select count(*) from matching) as matched, (select count(*) from deleted) as deleted,
          (select max(id) from matching) as last`,
    },
    parameters,
    options,
  );
  return { matched: row?.matched ?? 0n, deleted: row?.deleted ?? 0n, last: row?.last ?? undefined };
}
