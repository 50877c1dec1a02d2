/** Statements kept prepared on one connection: the server holds memory for each and forgets none by itself. */
export const MAX_PREPARED_STATEMENTS = 200;
