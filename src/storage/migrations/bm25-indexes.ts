import type { Logger } from "../../util/logger.ts";
import type { Queryable } from "../database/database.ts";
import { SQLSTATE, sqlstateOf } from "../database/errors.ts";

/**
 * Gives their BM25 index to domains that were made before the extension pg_textsearch was there, and creates the
 * extension if the server has it. Without it BM25 in SQL ranks: nothing of this is a reason not to start.
 */
export async function createBm25Indexes(session: Queryable, logger: Logger): Promise<void> {
  for (const name of await lackingBm25Index(session)) {
    const start = performance.now();
    // A single statement is a transaction: the lock ends with it.
    await session.query({ text: "select lock_memory_domain($1), create_domain_text_index($1)" }, [name]);
    logger.info(
      { domain: name, ms: Math.round(performance.now() - start) },
      "made the BM25 index of a domain",
    );
  }
}

async function lackingBm25Index(session: Queryable): Promise<string[]> {
  try {
    await session.query({ text: "select memory_use_bm25_index()" });
  } catch (error) {
    // The catalogue is older than these functions.
    if (sqlstateOf(error) === SQLSTATE.undefinedFunction) return [];
    throw error;
  }
  const rows = await session.query<{ name: string }>({
    text: "select name from memory_domains where lacks_bm25_index(name) order by name",
  });
  return rows.map((row) => row.name);
}
