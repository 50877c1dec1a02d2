import { createClient } from "@connectrpc/connect";
import { createGrpcTransport, Http2SessionManager } from "@connectrpc/connect-node";
import { DomainService } from "memory-service-client/memoryservice/v1/domain_service_pb.js";
import { MemoryService, SearchMode } from "memory-service-client/memoryservice/v1/memory_service_pb.js";

/** Deletes all domains, so that the server's memory use can be compared with the initial one. */
export async function emptyServer(url: string): Promise<void> {
  await withClients(url, async ({ domains }) => {
    for (;;) {
      const page = await domains.listDomains({ pageSize: 100 });
      // The server recreates the default domain empty.
      const rest = page.domains.filter(({ name, memoryCount }) => name !== "default" || memoryCount > 0n);
      for (const { name } of page.domains) await domains.deleteDomain({ name, confirmName: name });
      if (rest.length === 0 || page.domains.length < 2) return;
    }
  });
}

/** Stores, reads, finds and deletes a memory like an ordinary caller. @returns the problem, or undefined */
export async function checkService(url: string): Promise<string | undefined> {
  return await withClients(url, async ({ memories }) => {
    const key = { domain: "default", id: `check-${process.pid}` };
    const content = "the lighthouse keeper counts seventeen herons";
    try {
      await memories.delete({ ...key, allowMissing: true });
      await memories.store({ ...key, content });
      const { memory } = await memories.get(key);
      if (memory?.content !== content) return "Get answered another content";
      for (const mode of [SearchMode.TEXT, SearchMode.SEMANTIC, SearchMode.HYBRID]) {
        const { hits } = await memories.search({ domain: key.domain, query: content, mode });
        if (hits[0]?.memory?.id !== key.id)
          return `Search in mode ${SearchMode[mode]} did not find what was stored`;
      }
      const { deleted } = await memories.delete(key);
      return deleted ? undefined : "Delete found nothing";
    } catch (error) {
      return String(error);
    }
  });
}

async function withClients<T>(
  url: string,
  use: (clients: ReturnType<typeof clientsOf>) => Promise<T>,
): Promise<T> {
  const sessionManager = new Http2SessionManager(url);
  try {
    return await use(clientsOf(url, sessionManager));
  } finally {
    sessionManager.abort();
  }
}

function clientsOf(baseUrl: string, sessionManager: Http2SessionManager) {
  const transport = createGrpcTransport({ baseUrl, sessionManager });
  return {
    memories: createClient(MemoryService, transport),
    domains: createClient(DomainService, transport),
  };
}
