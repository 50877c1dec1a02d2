import type { Logger } from "../../util/logger.ts";
import type { Queryable } from "../database/database.ts";
import { SQLSTATE, sqlstateOf } from "../database/errors.ts";

/**
 * Creates the extension pg_textsearch if the server has it, and the BM25 index of every domain that lacks one because
 * it was created before the extension was available. BM25 in SQL ranks in the meantime.
 */
export async function createBm25Indexes(session: Queryable, logger: Logger): Promise<void> {
  for (const name of await findDomainsWithoutIndex(session)) {
    const start = performance.now();
    // A single statement is a transaction, so the lock ends with it.
    await session.query(
      { writes: true, text: "select lock_memory_domain($1), create_domain_text_index($1)" },
      [name],
    );
    logger.info(
      { domain: name, ms: Math.round(performance.now() - start) },
      "created the BM25 index of a domain",
    );
  }
}

async function findDomainsWithoutIndex(session: Queryable): Promise<string[]> {
  try {
    await session.query({ writes: true, text: "select memory_use_bm25_index()" });
  } catch (error) {
    // The applied migrations do not include this function.
    if (sqlstateOf(error) === SQLSTATE.undefinedFunction) return [];
    throw error;
  }
  const rows = await session.query<{ name: string }>({
    text: "select name from memory_domains where lacks_bm25_index(name) order by name",
  });
  return rows.map((row) => row.name);
}
