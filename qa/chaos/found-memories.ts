import type { Client } from "@connectrpc/connect";
import type { MemoryClient } from "memory-service-client";
import { Memory_Embedding_State as State } from "memory-service-client/memoryservice/v1/memory_pb.js";
import { type MemoryService, SearchMode } from "memory-service-client/memoryservice/v1/memory_service_pb.js";
import type { FoundMemory } from "./check.ts";

/** Returns all memories of a domain from an export. @throws if the export ends early */
export async function* readMemories(
  client: Pick<Client<typeof MemoryService>, "export">,
  domain: string,
): AsyncGenerator<FoundMemory> {
  let records = 0;
  let complete = false;
  for await (const { item } of client.export({ domain, includeEmbeddings: true })) {
    if (item.case === "summary") complete = item.value.records === BigInt(records);
    if (item.case !== "record" || item.value.memory === undefined) continue;
    records++;
    const { memory, chunks } = item.value;
    yield {
      id: memory.id,
      content: memory.content,
      ready: memory.embedding?.state === State.READY,
      chunks: chunks.map(({ startOffset, endOffset, embedding }) => ({
        start: startOffset,
        end: endOffset,
        embedding: floatsFrom(embedding),
      })),
    };
  }
  if (!complete) throw new Error(`the export of "${domain}" ended early`);
}

/** Returns the ids that a search for the id, which is part of every content, does not find. */
export async function findMissingFromSearch(
  client: Pick<MemoryClient, "search">,
  domain: string,
  ids: readonly string[],
): Promise<string[]> {
  const lost: string[] = [];
  for (const id of ids) {
    const { hits } = await client.search({ query: `"${id}"`, domain, mode: SearchMode.TEXT });
    if (!hits.some(({ memory }) => memory?.id === id)) lost.push(id);
  }
  return lost;
}

function floatsFrom(bytes: Uint8Array): Float32Array {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return Float32Array.from({ length: bytes.byteLength / 4 }, (_, n) => view.getFloat32(4 * n, true));
}
