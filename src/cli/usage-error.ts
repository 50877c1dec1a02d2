/** The arguments of a command are not valid; the program exits with code 2. The message is one sentence. */
export class UsageError extends Error {
  override readonly name = "UsageError";
}
