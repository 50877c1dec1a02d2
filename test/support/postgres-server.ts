import pg from "pg";

/** With a second kind of server there is no need to test the embedded engine again. */
export function isServerOnly(): boolean {
  return process.env.TEST_SERVER_ONLY === "true" && testDatabaseUrl() !== undefined;
}

/** The server to test on, if there is one. */
export function testDatabaseUrl(): string | undefined {
  return process.env.TEST_DATABASE_URL || undefined;
}

/** The URL of another database on the same server. */
export function databaseUrl(url: string, database: string): string {
  const other = new URL(url);
  other.pathname = `/${database}`;
  return other.href;
}

/** Runs one statement as the server's administrator. */
export async function administer(url: string, statement: string): Promise<void> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    await client.query(statement);
  } finally {
    await client.end();
  }
}
