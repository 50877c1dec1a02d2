import type { Memory } from "../../../memory/model/memory.ts";
import { DatabaseError, type Queryable } from "../../database/database.ts";
import { SQLSTATE } from "../../database/errors.ts";
import { domainTables, isAlive } from "../domains/domain-tables.ts";
import { type MemoryRow, memoryColumns, memoryFromRow } from "./memory-row.ts";

/**
 * The memory that has this content in a domain that deduplicates, expired or not. Undefined too in a domain that does
 * not: there no index serves the question, and nothing is read.
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
      text: `delete from ${memories} m where m.id = $1 and not ${isAlive("m")}`,
    },
    [id],
  );
}

/** True for a write that would have given a domain which deduplicates the same content twice. */
export function isContentTaken(error: unknown, domain: string): boolean {
  return (
    error instanceof DatabaseError &&
    error.sqlstate === SQLSTATE.uniqueViolation &&
    error.constraint === `${domain}_memories_content_idx`
  );
}
