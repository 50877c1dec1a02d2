import type { Queryable } from "./database.ts";

/** The version of PostgreSQL, there or compiled in, as `18.1`: without what a distribution adds. */
export async function readEngineVersion(database: Queryable): Promise<string> {
  const [row] = await database.query<{ version: string }>({
    text: "select current_setting('server_version') as version",
  });
  return row?.version.split(" ", 1)[0] ?? "";
}
