import type { ListedMemory, ListQuery } from "../../../memory/model/memory-store.ts";
import type { Parameter, Queryable, QueryOptions } from "../../database/database.ts";
import { domainTables } from "../domains/domain-tables.ts";
import { isMatching } from "../search/compile-filter.ts";
import { type MemoryRow, memoryColumns, memoryFromRow } from "./memory-row.ts";

interface ListedRow extends MemoryRow {
  readonly content: string;
  readonly preview: string;
  readonly found: bigint;
}

/**
 * Reads a page by the index on (time, id). Finds the keys first, with the number of bytes before each, so that contents
 * beyond `maxBytes` are not read. The limit is part of the text, because with a parameter the planner would expect a
 * tenth of the table.
 */
export async function listMemories(
  database: Queryable,
  domain: string,
  query: ListQuery,
  options?: QueryOptions,
): Promise<ListedMemory[]> {
  const { memories } = domainTables(domain);
  const previewLength = Math.trunc(query.previewLength);
  const parameters: Parameter[] = [];
  const time = query.order.by === "create_time" ? "created_at" : "updated_at";
  const direction = query.order.descending ? "desc" : "asc";
  const conditions = [isMatching(query.filter, parameters, "m")];
  if (query.after !== undefined) {
    const [at, id] = [parameters.push(query.after.time), parameters.push(query.after.id)];
    const beyond = query.order.descending ? "<" : ">";
    conditions.push(`(m.${time}, m.id) ${beyond} (memory_time($${at}::bigint), $${id}::text)`);
  }
  const rows = await database.query<ListedRow>(
    {
      text: `with page as materialized (
          select m.id, m.${time} as time,
            octet_length(m.metadata::text) + ${query.content ? "octet_length(m.content)" : "0"} as bytes
          from ${memories} m
          where ${conditions.join(" and ")}
          order by m.${time} ${direction}, m.id ${direction}
          limit ${Math.trunc(query.limit)}
        ), sized as (
          select id, time, count(*) over () as found,
            sum(bytes) over (order by time ${direction}, id ${direction} rows unbounded preceding) - bytes as before
          from page
        )
        select ${memoryColumns("m")}, s.found,
          ${query.content ? "m.content, ''" : `'' as content, left(m.content, ${previewLength})`} as preview
        from sized s join ${memories} m on m.id = s.id
        where s.before < ${Math.trunc(query.maxBytes)}
        order by s.time ${direction}, s.id ${direction}`,
    },
    parameters,
    options,
  );
  return rows.map((row, index) => ({
    memory: memoryFromRow(domain, row, row.content),
    preview: row.preview,
    more: index + 1 < Number(row.found),
  }));
}
