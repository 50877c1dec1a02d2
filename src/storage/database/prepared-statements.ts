/** Statements kept prepared on one connection: the server holds memory for each and forgets none by itself. */
export const MAX_PREPARED_STATEMENTS = 200;

/** So many bytes of a name PostgreSQL keeps: longer ones that begin alike are one name to it. */
const MAX_NAME_BYTES = 63;

/** @throws Error if PostgreSQL would cut the name of a statement. */
export function assertStatementName(name: string): void {
  if (Buffer.byteLength(name) > MAX_NAME_BYTES)
    throw new Error(`the statement name "${name}" is longer than ${MAX_NAME_BYTES} bytes`);
}
