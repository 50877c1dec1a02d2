/** Maximum number of prepared statements on one connection. The server keeps each in memory until it is deallocated. */
export const MAX_PREPARED_STATEMENTS = 200;

/** Maximum length of a name. PostgreSQL truncates longer names, and could then mistake one statement for another. */
const MAX_NAME_BYTES = 63;

/** @throws Error if PostgreSQL would truncate the name of a statement. */
export function assertStatementName(name: string): void {
  if (Buffer.byteLength(name) > MAX_NAME_BYTES)
    throw new Error(`the statement name "${name}" is longer than ${MAX_NAME_BYTES} bytes`);
}
