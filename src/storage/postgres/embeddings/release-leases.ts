import type { Queryable } from "../../database/database.ts";
import { domainTables } from "../domains/domain-tables.ts";

/**
 * Makes all pending memories due that somebody had claimed. For a database that this process has alone, at its start:
 * whoever claimed them was killed, and would keep them for the rest of the lease.
 */
export async function endClaims(database: Queryable): Promise<void> {
  const domains = await database.query<{ name: string }>(
    { name: "select_claimed_domains", text: "select name from memory_domains order by name" },
    [],
  );
  for (const { name } of domains) {
    await database.query(
      {
        text: `update ${domainTables(name).memories} set
            embed_after = now(), embedding_attempts = greatest(0, embedding_attempts - 1)
          where embedding_state = 'pending' and embed_after > now()`,
      },
      [],
    );
  }
}
