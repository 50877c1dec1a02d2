import { setTimeout as sleep } from "node:timers/promises";
import { countPending, type TargetDomain } from "./target-domain.ts";

/** How often the target is asked. */
const INTERVAL_MS = 1_000;
/** An embedder that is away for so long is not waited for. */
const PATIENCE_MS = 15_000;

/**
 * Waits until what was imported has its embeddings, as long as the embedder answers. Returns how many are still
 * waiting: those are embedded whenever a server runs that has an embedder.
 */
export async function waitForEmbeddings(
  target: TargetDomain,
  onProgress: (pending: number) => void,
  signal: AbortSignal,
): Promise<number> {
  let least = Number.POSITIVE_INFINITY;
  let lastChange = performance.now();
  for (;;) {
    const pending = await countPending(target, signal);
    if (pending === 0) return 0;
    onProgress(pending);
    const { embedder } = await target.client.server.getServerInfo({}, { signal });
    const now = performance.now();
    if (pending < least || embedder?.available === true) lastChange = now;
    least = Math.min(least, pending);
    if (now - lastChange > PATIENCE_MS) return pending;
    await sleep(INTERVAL_MS, undefined, { signal });
  }
}
