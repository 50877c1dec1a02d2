import type { GrpcClient } from "./server/server-process.ts";

/** Number of memories in one call. */
const MEMORIES = 100;

/** Stores memories as fast as the server allows, without waiting for embeddings. */
export async function storeMany(
  client: GrpcClient,
  domain: string,
  count: number,
  contentOf: (index: number) => string,
): Promise<void> {
  for (let first = 0; first < count; first += MEMORIES) {
    const items = Array.from({ length: Math.min(MEMORIES, count - first) }, (_, i) => ({
      content: contentOf(first + i),
      domain,
    }));
    await client.batchStore({ items, atomic: true });
  }
}
