import type { Queryable, QueryOptions } from "../../database/database.ts";
import { domainTables } from "./domain-tables.ts";

/** Returns the names of the domains in which a former text search configuration may still be in use. */
export async function selectReindexing(database: Queryable, options?: QueryOptions): Promise<string[]> {
  const rows = await database.query<{ name: string }>(
    {
      name: "select_reindexing",
      text: "select name from memory_domains where former_text_search_configs <> '{}' order by name",
    },
    [],
    options,
  );
  return rows.map(({ name }) => name);
}

/**
 * Reindexes the next memories within a transaction, ordered by id, by the current configuration of the domain, and
 * records the progress. Returns whether there is more to do. Locks the domain's row, so that one server at a time does
 * the work. Locks the table first, in the same order as dropping the domain and changing its dimensions, to avoid
 * deadlocks.
 *
 * @throws DatabaseError undefinedTable if the domain has been deleted.
 */
export async function reindexTexts(transaction: Queryable, domain: string, limit: number): Promise<boolean> {
  const { memories } = domainTables(domain);
  await transaction.query({ writes: true, text: `lock table ${memories} in row exclusive mode` });
  const [state] = await transaction.query<{ config: string; done: string | null }>(
    {
      writes: true,
      text: `select text_search_config as config, text_reindexed_to as done from memory_domains
        where name = $1 and former_text_search_configs <> '{}'
        for update skip locked`,
    },
    [domain],
  );
  if (state === undefined) return false;
  const [batch] = await transaction.query<{ count: number; last: string | null }>(
    {
      name: `reindex_words:${domain}`,
      // Skips unchanged rows, because every new row version costs an entry in the vector index.
      writes: true,
      text: `with batch as materialized (
          select id from ${memories} where id > $1 order by id limit $2
        ), written as (
          update ${memories} m set text_vector = memory_text_vector($3::regconfig, m.content)
          from batch
          where m.id = batch.id
            and m.text_vector is distinct from memory_text_vector($3::regconfig, m.content)
        )
        select count(*)::integer as count, max(id) as last from batch`,
    },
    [state.done ?? "", limit, state.config],
  );
  const finished = batch === undefined || batch.count < limit;
  await transaction.query(
    {
      writes: true,
      text: `update memory_domains set
          former_text_search_configs = case when $2 then '{}' else former_text_search_configs end,
          text_reindexed_to = case when $2 then null else $3 end
        where name = $1`,
    },
    [domain, finished, batch?.last ?? null],
  );
  return !finished;
}
