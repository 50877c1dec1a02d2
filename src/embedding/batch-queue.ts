import type { EmbeddingRole } from "../memory/model/embedder.ts";

/** A queue of texts that hands them out in batches of one role. Queries go before documents. */
export interface BatchQueue<E extends { readonly text: string }> {
  push(role: EmbeddingRole, entry: E): void;
  /** Removes and returns the next batch; undefined if the queue is empty. */
  take(): { readonly role: EmbeddingRole; readonly batch: E[] } | undefined;
  /** Removes all entries that match. */
  drop(matches: (entry: E) => boolean): void;
  /** Returns the number of waiting texts of a role. */
  waiting(role: EmbeddingRole): number;
}

/** After this many consecutive batches of queries, one batch of documents follows, so that searches cannot block all storing. */
const QUERY_BATCHES_PER_DOCUMENT_BATCH = 16;

export function createBatchQueue<E extends { readonly text: string }>(limits: {
  readonly maxBatchTexts: number;
  /** UTF-16 code units. A longer text forms a batch of its own. */
  readonly maxBatchLength: number;
}): BatchQueue<E> {
  const waiting: Record<EmbeddingRole, E[]> = { query: [], document: [] };
  let queryBatches = 0;

  function nextRole(): EmbeddingRole | undefined {
    if (waiting.query.length === 0) return waiting.document.length === 0 ? undefined : "document";
    if (waiting.document.length > 0 && queryBatches >= QUERY_BATCHES_PER_DOCUMENT_BATCH) return "document";
    return "query";
  }

  function takeBatch(role: EmbeddingRole): E[] {
    const entries = waiting[role];
    let count = 0;
    let length = 0;
    for (const { text } of entries) {
      const fits = count < limits.maxBatchTexts && length + text.length <= limits.maxBatchLength;
      if (count > 0 && !fits) break;
      count += 1;
      length += text.length;
    }
    return entries.splice(0, count);
  }

  return {
    push(role, entry) {
      waiting[role].push(entry);
    },
    take() {
      const role = nextRole();
      if (role === undefined) return undefined;
      queryBatches = role === "query" ? queryBatches + 1 : 0;
      return { role, batch: takeBatch(role) };
    },
    drop(matches) {
      for (const role of ["query", "document"] as const) {
        waiting[role] = waiting[role].filter((entry) => !matches(entry));
      }
    },
    waiting: (role) => waiting[role].length,
  };
}
