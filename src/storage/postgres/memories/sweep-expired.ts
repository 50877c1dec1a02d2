import type { Queryable, QueryOptions } from "../../database/database.ts";
import { domainTables } from "../domains/domain-tables.ts";

/**
 * Deletes expired memories with their chunks, oldest expiry first, and returns their number. Skips locked
 * rows, so that servers share the work and never wait.
 */
export async function sweepExpired(
  database: Queryable,
  domain: string,
  limit: number,
  options?: QueryOptions,
): Promise<number> {
  const { memories } = domainTables(domain);
  const [row] = await database.query<{ deleted: bigint }>(
    {
      name: `sweep_expired:${domain}`,
      writes: true,
      text: `with expired as materialized (
          select m.id from ${memories} m where m.expires_at <= now()
          order by m.expires_at limit ${Math.trunc(limit)}
          for update skip locked
        ), deleted as (
          delete from ${memories} m using expired where m.id = expired.id returning m.id
        )
        select count(*) as deleted from deleted`,
    },
    [],
    options,
  );
  return Number(row?.deleted ?? 0n);
}
