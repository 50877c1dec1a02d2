/** With a second kind of server there is no need to test the embedded engine again. */
export function isServerOnly(): boolean {
  return process.env.TEST_SERVER_ONLY === "true" && testDatabaseUrl() !== undefined;
}

/** The server to test on, if there is one. */
export function testDatabaseUrl(): string | undefined {
  return process.env.TEST_DATABASE_URL || undefined;
}
