import type { Queryable } from "./database.ts";

/** Returns the version of PostgreSQL without additions of a distribution, for example `18.1`. */
export async function readEngineVersion(database: Queryable): Promise<string> {
  const [row] = await database.query<{ version: string }>({
    text: "select current_setting('server_version') as version",
  });
  return row?.version.split(" ", 1)[0] ?? "";
}
