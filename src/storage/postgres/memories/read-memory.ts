import type { Memory } from "../../../memory/model/memory.ts";
import type { Queryable, QueryOptions } from "../../database/database.ts";
import { domainTables, isAlive } from "../domains/domain-tables.ts";
import { type MemoryRow, memoryColumns, memoryFromRow } from "./memory-row.ts";

/** Reads one memory with its content; undefined if there is none or it has expired. */
export async function readMemory(
  database: Queryable,
  domain: string,
  id: string,
  options?: QueryOptions,
): Promise<Memory | undefined> {
  const { memories } = domainTables(domain);
  const rows = await database.query<MemoryRow & { content: string }>(
    {
      name: `read_memory:${domain}`,
      text: `select ${memoryColumns("m")}, m.content from ${memories} m where m.id = $1 and ${isAlive("m")}`,
    },
    [id],
    options,
  );
  return rows[0] && memoryFromRow(domain, rows[0], rows[0].content);
}
