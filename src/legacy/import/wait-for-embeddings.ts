import { setTimeout as sleep } from "node:timers/promises";
import { countPending, type TargetDomain } from "./target-domain.ts";

/** Interval between two checks of the target. */
const INTERVAL_MS = 1_000;
/** Waiting stops when the embedder has been unavailable this long. */
export const MAX_EMBEDDER_DOWNTIME_MS = 15_000;

/**
 * Waits until the imported memories are embedded, as long as the embedder is available. Returns the number of memories
 * that are still pending; any server with an embedder embeds them later.
 */
export async function waitForEmbeddings(
  target: TargetDomain,
  onProgress: (pending: number) => void,
  signal: AbortSignal,
): Promise<number> {
  let fewest = Number.POSITIVE_INFINITY;
  let lastChange = performance.now();
  for (;;) {
    const pending = await countPending(target, signal);
    if (pending === 0) return 0;
    onProgress(pending);
    const { embedder } = await target.client.server.getServerInfo({}, { signal });
    const now = performance.now();
    if (pending < fewest || embedder?.available === true) lastChange = now;
    fewest = Math.min(fewest, pending);
    if (now - lastChange > MAX_EMBEDDER_DOWNTIME_MS) return pending;
    await sleep(INTERVAL_MS, undefined, { signal });
  }
}
