/**
 * Returns a copy of the first `maxCharacters` characters of a text. A slice would keep the whole text in V8's memory.
 * Lone surrogates become U+FFFD.
 */
export function truncateText(text: string, maxCharacters: number): string {
  if (text.length <= maxCharacters) return text.toWellFormed();
  return Buffer.from(text.slice(0, maxCharacters)).toString();
}
