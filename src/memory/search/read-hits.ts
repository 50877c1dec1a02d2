import { setImmediate } from "node:timers/promises";
import { mapBounded } from "../../util/map-bounded.ts";
import type { Memory } from "../model/memory.ts";
import type { SearchIndex, Snippet } from "../model/search-index.ts";
import { hitKey, type RankedHit } from "./fuse-scores.ts";
import type { ParsedSearch } from "./search-command.ts";
import { createHighlighter, type Highlight, SNIPPET_LENGTH } from "./snippet.ts";

export interface SearchHit extends RankedHit {
  readonly memory: Memory;
  /** Beginning of the content if the content itself is omitted; "" otherwise. */
  readonly preview: string;
  readonly snippet: Snippet;
}

/** Progress of a stream. `skipped` counts ranked hits that were deleted or expired before they could be sent. */
export interface StreamProgress {
  readonly sent: number;
  readonly skipped: number;
}

/** Target size of a page's contents in bytes, so that a slow consumer of long memories uses little memory. */
const PAGE_BYTES = 1024 * 1024;
const FIRST_PAGE = 100;
const MAX_PAGE = 200;
/** Approximate size of a hit besides its content: ids, times, scores. */
export const HIT_BYTES = 512;
/** Length of a text, in UTF-16 code units, from which highlighting takes milliseconds. */
const LONG_TEXT = 8_192;
/** Number of domains whose memories are read concurrently, since other calls need connections too. */
const DOMAINS_AT_ONCE = 2;

/** Reads ranked memories up to the limit. A memory that was deleted after ranking is replaced by the next one. */
export async function* readHits(
  repository: Pick<SearchIndex, "fetch">,
  command: Pick<ParsedSearch, "terms" | "limit" | "content">,
  ranked: readonly RankedHit[],
  signal: AbortSignal,
  progress: { sent: number; skipped: number } = { sent: 0, skipped: 0 },
): AsyncGenerator<SearchHit> {
  const highlight = createHighlighter(command.terms.words);
  let pageSize = FIRST_PAGE;
  for (let next = 0; next < ranked.length && progress.sent < command.limit; ) {
    const page = ranked.slice(next, next + Math.min(pageSize, command.limit - progress.sent));
    next += page.length;
    const fetched = await fetchPage(repository, page, command.content, highlight, signal);
    progress.skipped += page.length - fetched.length;
    let bytes = 0;
    for (const hit of fetched) {
      signal.throwIfAborted();
      bytes += Buffer.byteLength(hit.memory.content) + HIT_BYTES;
      progress.sent++;
      yield hit;
    }
    const bytesPerHit = Math.max(bytes / Math.max(fetched.length, 1), HIT_BYTES);
    pageSize = Math.max(1, Math.min(MAX_PAGE, Math.floor(PAGE_BYTES / bytesPerHit)));
  }
}

/** Reads hits in their order. Memories that no longer exist are missing. */
async function fetchPage(
  repository: Pick<SearchIndex, "fetch">,
  page: readonly RankedHit[],
  content: boolean,
  highlight: Highlight,
  signal: AbortSignal,
): Promise<SearchHit[]> {
  const byDomain = Map.groupBy(page, ({ domain }) => domain);
  const fetched = await mapBounded([...byDomain], DOMAINS_AT_ONCE, ([domain, hits]) =>
    repository.fetch(domain, hits, { content, snippetLength: SNIPPET_LENGTH }, signal),
  );
  const byKey = new Map(fetched.flat().map((found) => [hitKey(found.memory), found]));
  const hits: SearchHit[] = [];
  for (const hit of page) {
    const found = byKey.get(hitKey(hit));
    if (found === undefined) continue;
    const { memory, preview, surroundings } = found;
    const highlighted = surroundings && highlight(surroundings);
    hits.push({ ...hit, memory, preview, snippet: highlighted ?? found.snippet });
    // Yields to other calls between two long texts.
    if (surroundings !== undefined && surroundings.text.length > LONG_TEXT) await setImmediate();
    signal.throwIfAborted();
  }
  return hits;
}
