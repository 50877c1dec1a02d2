import type { Memory } from "../../../memory/model/memory.ts";
import { DatabaseError, type Queryable } from "../../database/database.ts";
import { SQLSTATE } from "../../database/errors.ts";
import { domainTables, isAlive } from "../domains/domain-tables.ts";
import { type MemoryRow, memoryColumns, memoryFromRow } from "./memory-row.ts";

/**
 * Returns the memory that has this content, expired or not, if the domain deduplicates. Returns undefined without
 * reading memories if it does not, because no index serves the query there.
 */
export async function findContent(
  database: Queryable,
  domain: string,
  content: string,
): Promise<{ memory: Memory; expired: boolean } | undefined> {
  const { memories } = domainTables(domain);
  const rows = await database.query<MemoryRow & { alive: boolean }>(
    {
      name: `find_content:${domain}`,
      text: `select ${memoryColumns("m")}, ${isAlive("m")} as alive
        from ${memories} m
        where m.content_hash = memory_content_hash($1)
          and exists (select from memory_domains d where d.name = $2 and d.deduplicate_content)`,
    },
    [content, domain],
  );
  return rows[0] && { memory: memoryFromRow(domain, rows[0], content), expired: !rows[0].alive };
}

/** Deletes a memory with its chunks if it has expired. */
export async function deleteExpired(database: Queryable, domain: string, id: string): Promise<void> {
  const { memories } = domainTables(domain);
  await database.query(
    {
      name: `delete_expired:${domain}`,
      writes: true,
      text: `delete from ${memories} m where m.id = $1 and not ${isAlive("m")}`,
    },
    [id],
  );
}

/** Returns whether an error means that a domain which deduplicates already has the content. */
export function isContentTaken(error: unknown, domain: string): boolean {
  return (
    error instanceof DatabaseError &&
    error.sqlstate === SQLSTATE.uniqueViolation &&
    error.constraint === `${domain}_memories_content_idx`
  );
}
