/** Returns the message of an error, or the text form of a thrown value that is not an `Error`. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
