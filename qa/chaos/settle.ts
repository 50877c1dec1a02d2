import { setTimeout as sleep } from "node:timers/promises";
import type { MemoryClient } from "memory-service-client";

const LOOK_MS = 250;

/**
 * Waits until every memory is embedded in the embedder's current version, and retries the failed ones as an operator
 * would. Stops after `timeoutMs`. Returns the number of retried memories.
 */
export async function settle(client: MemoryClient, domain: string, timeoutMs: number): Promise<number> {
  const { domains, memories, server } = client.raw;
  const startedAt = Date.now();
  let retried = 0;
  for (;;) {
    const { embedder } = await server.getServerInfo({});
    const figures = (await domains.getDomain({ name: domain })).domain;
    const countedAt = Number(figures?.countsAsOf?.seconds ?? 0n) * 1_000;
    const version = embedder?.available ? embedder.version?.version : undefined;
    const aligned = version !== undefined && figures?.embeddingVersion?.version === version;
    if (figures !== undefined && aligned && countedAt > startedAt) {
      if (figures.pendingCount === 0n && figures.failedCount === 0n) return retried;
      if (figures.failedCount > 0n) retried += Number((await memories.retryFailed({ domain })).retried);
    }
    if (Date.now() - startedAt > timeoutMs) return retried;
    await sleep(LOOK_MS);
  }
}
