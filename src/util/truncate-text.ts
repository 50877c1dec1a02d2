/**
 * The first characters of a text, as a copy: a slice keeps the whole text in V8's memory. Halves of surrogate pairs become
 * U+FFFD.
 */
export function startOf(text: string, maxCharacters: number): string {
  if (text.length <= maxCharacters) return text.toWellFormed();
  return Buffer.from(text.slice(0, maxCharacters)).toString();
}
