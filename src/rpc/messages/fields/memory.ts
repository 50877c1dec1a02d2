import { create } from "@bufbuild/protobuf";
import {
  Memory_Embedding_State,
  type Memory as MemoryMessage,
  MemorySchema,
} from "memory-service-client/memoryservice/v1/memory_pb.js";
import type { EmbeddingStatus, JsonObject, Memory } from "../../../memory/model/memory.ts";
import { timestampFromMicroseconds } from "../../../util/proto-time.ts";

const stateOf = {
  pending: Memory_Embedding_State.PENDING,
  ready: Memory_Embedding_State.READY,
  failed: Memory_Embedding_State.FAILED,
} as const satisfies Record<EmbeddingStatus["state"], Memory_Embedding_State>;

/** Converts a memory. `preview` replaces the content if the view omits it. */
export function messageFromMemory(memory: Memory, preview = ""): MemoryMessage {
  return create(MemorySchema, {
    id: memory.id,
    domain: memory.domain,
    content: memory.content,
    source: memory.source,
    ...(memory.importance === undefined ? {} : { importance: memory.importance }),
    tags: [...memory.tags],
    ...(Object.keys(memory.metadata).length === 0 ? {} : { metadata: structFromJson(memory.metadata) }),
    createTime: timestampFromMicroseconds(memory.createTime),
    updateTime: timestampFromMicroseconds(memory.updateTime),
    ...(memory.expireTime === undefined ? {} : { expireTime: timestampFromMicroseconds(memory.expireTime) }),
    version: memory.version,
    chunkCount: memory.chunkCount,
    embedding: {
      state: stateOf[memory.embedding.state],
      failureReason: memory.embedding.failureReason,
      version: memory.embedding.version ?? 0,
    },
    preview,
  });
}

type Struct = NonNullable<MemoryMessage["metadata"]>;

/** Returns the same value. The JSON type of protobuf-es differs only in not being read-only. */
function structFromJson(value: JsonObject): Struct {
  return value as Struct;
}
