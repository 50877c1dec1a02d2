/** Returns true if tests skip the embedded engine, because another run with another server covers it. */
export function isServerOnly(): boolean {
  return process.env.TEST_SERVER_ONLY === "true" && testDatabaseUrl() !== undefined;
}

/** The server to test on, if any. */
export function testDatabaseUrl(): string | undefined {
  return process.env.TEST_DATABASE_URL || undefined;
}
