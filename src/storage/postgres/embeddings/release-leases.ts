import type { Queryable } from "../../database/database.ts";
import { domainTables } from "../domains/domain-tables.ts";

/**
 * Releases all leases on pending memories. To be called at startup on a database that no other process uses: the
 * process that held the leases was killed, and they would last until they expire.
 */
export async function releaseLeases(database: Queryable): Promise<void> {
  const domains = await database.query<{ name: string }>(
    { name: "select_leased_domains", text: "select name from memory_domains order by name" },
    [],
  );
  for (const { name } of domains) {
    await database.query(
      {
        writes: true,
        text: `update ${domainTables(name).memories} set
            embed_after = now(), embedding_attempts = greatest(0, embedding_attempts - 1)
          where embedding_state = 'pending' and embed_after > now()`,
      },
      [],
    );
  }
}
