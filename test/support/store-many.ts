import { EmbeddingMode } from "memory-service-client/memoryservice/v1/memory_service_pb.js";
import type { GrpcClient } from "./server-process.ts";

/** Fewer than would wait long for one of the server's connections. */
const AT_ONCE = 8;

/** Stores memories as fast as the server likes, without waiting for embeddings. */
export async function storeMany(
  client: GrpcClient,
  domain: string,
  count: number,
  contentOf: (index: number) => string,
): Promise<void> {
  let next = 0;
  const storeSome = async () => {
    while (next < count) {
      const content = contentOf(next++);
      await client.store({ content, domain, embeddingMode: EmbeddingMode.BACKGROUND });
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, storeSome));
}
