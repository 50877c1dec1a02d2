import type { Deletion } from "../../../memory/model/memory-store.ts";
import type { Queryable, QueryOptions } from "../../database/database.ts";
import { domainTables, isAlive } from "../domains/domain-tables.ts";

/** Deletes one memory with its chunks, if it exists, has not expired and is at the expected version. */
export async function deleteMemoryAt(
  database: Queryable,
  domain: string,
  id: string,
  expectedVersion: bigint | undefined,
  options?: QueryOptions,
): Promise<Deletion> {
  const { memories } = domainTables(domain);
  const rows = await database.query<{ version: bigint; deleted: boolean }>(
    {
      name: `delete_memory_at:${domain}`,
      // Locks first, so that the version compared and returned is the latest.
      writes: true,
      text: `with found as materialized (
          select m.id, m.version from ${memories} m where m.id = $1 and ${isAlive("m")} for update
        ), deleted as (
          delete from ${memories} m using found
          where m.id = found.id and ($2::bigint is null or found.version = $2::bigint)
          returning m.id
        )
        select version, exists (select from deleted) as deleted from found`,
    },
    [id, expectedVersion ?? null],
    options,
  );
  const [found] = rows;
  if (found === undefined) return { kind: "missing" };
  return found.deleted ? { kind: "deleted" } : { kind: "other-version", version: found.version };
}
