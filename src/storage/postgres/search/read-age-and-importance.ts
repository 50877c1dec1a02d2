import type { JsonValue } from "../../../memory/model/memory.ts";
import type { AgeAndImportance } from "../../../memory/model/search-index.ts";
import type { Queryable, QueryOptions } from "../../database/database.ts";
import { domainTables, isAlive } from "../domains/domain-tables.ts";

interface AgeRow {
  readonly id: string;
  readonly age: number;
  readonly importance: JsonValue;
}

/** Reads the age and importance of existing memories, in any order. An importance that is not a number counts as unset. */
export async function readAgeAndImportance(
  database: Queryable,
  domain: string,
  ids: readonly string[],
  options?: QueryOptions,
): Promise<AgeAndImportance[]> {
  const rows = await database.query<AgeRow & Record<string, unknown>>(
    {
      name: `read_age:${domain}`,
      text: `select m.id, extract(epoch from now() - m.updated_at)::float8 as age,
          m.metadata -> 'importance' as importance
        from ${domainTables(domain).memories} m
        where m.id = any($1::text[]) and ${isAlive("m")}`,
    },
    [ids],
    options,
  );
  return rows.map(({ id, age, importance }) => ({
    id,
    ageSeconds: age,
    importance: typeof importance === "number" ? importance : undefined,
  }));
}
