/**
 * Settings that every connection of both engines starts with (design: the search is one prepared statement and
 * sets nothing itself, a `set local` in a transaction costs a fifth to a third of the throughput).
 */
export const connectionSettings: Readonly<Record<string, string>> = {
  TimeZone: "UTC",
  // Candidates kept while an HNSW index is searched: twice the usual depth, for recall.
  "hnsw.ef_search": "200",
  // Keep scanning while a filter eats the candidates, up to the number of tuples below.
  "hnsw.iterative_scan": "relaxed_order",
  "hnsw.max_scan_tuples": "20000",
};
