/**
 * Settings of every connection of both engines. Searches set the depth of an index scan themselves, depending on the
 * size of the domain (src/storage/postgres/search/find-nearest.ts).
 */
export const connectionSettings: Readonly<Record<string, string>> = {
  TimeZone: "UTC",
  // The planner estimates with this value until a search sets its own. With pgvector's default of 40 it considers the
  // index so cheap that it uses it even if an exact search is as fast: among 2,500 to 6,000 random vectors of 384
  // dimensions, both take 6 to 12 ms, but the index finds only .98 to .88 of the nearest 100.
  "hnsw.ef_search": "200",
  // Continues the scan if a filter removes too many candidates.
  "hnsw.iterative_scan": "relaxed_order",
};
