import { create } from "@bufbuild/protobuf";
import {
  type MemoryRecord_Chunk,
  MemoryRecord_ChunkSchema,
} from "memory-service-client/memoryservice/v1/memory_pb.js";
import {
  type ExportRequest,
  type ExportResponse,
  ExportResponseSchema,
} from "memory-service-client/memoryservice/v1/memory_service_pb.js";
import type { EmbeddedChunk } from "../../memory/model/draft.ts";
import { assertNoViolations } from "../../memory/model/errors.ts";
import type { ExportCommand, ExportedRecord, RunningExport } from "../../memory/read/export.ts";
import { timestampFromMicroseconds } from "../../util/proto-time.ts";
import { messageFromEmbeddingVersion } from "./fields/embedding-version.ts";
import { filterFromMessage } from "./fields/filter.ts";
import { messageFromMemory } from "./fields/memory.ts";
import { domainName, type Rules, violationsOf } from "./validate.ts";

const rules: Rules<ExportRequest> = { domain: domainName };

/** @throws ServiceError INVALID_ARGUMENT naming every field that breaks a rule. */
export function exportCommandFromRequest(request: ExportRequest, defaultDomain: string): ExportCommand {
  const violations = violationsOf(request, rules);
  const filter = request.filter && filterFromMessage(request.filter, "filter", violations);
  assertNoViolations(violations);
  return {
    domain: request.domain || defaultDomain,
    filter,
    embeddings: request.includeEmbeddings,
    cursor: request.cursor,
  };
}

export function exportHeaderFrom({ domain, exportTime, embeddingVersion }: RunningExport): ExportResponse {
  return create(ExportResponseSchema, {
    item: {
      case: "header",
      value: {
        domain,
        exportTime: timestampFromMicroseconds(exportTime),
        ...(embeddingVersion === undefined
          ? {}
          : { embeddingVersion: messageFromEmbeddingVersion(embeddingVersion) }),
      },
    },
  });
}

export function exportRecordFrom({ memory, chunks, cursor }: ExportedRecord): ExportResponse {
  return create(ExportResponseSchema, {
    item: {
      case: "record",
      value: { memory: messageFromMemory(memory), chunks: chunks.map(messageFromChunk) },
    },
    cursor,
  });
}

function messageFromChunk({ start, end, vector }: EmbeddedChunk, index: number): MemoryRecord_Chunk {
  const embedding = new Uint8Array(vector.length * Float32Array.BYTES_PER_ELEMENT);
  const view = new DataView(embedding.buffer);
  for (const [n, value] of vector.entries()) view.setFloat32(n * Float32Array.BYTES_PER_ELEMENT, value, true);
  return create(MemoryRecord_ChunkSchema, {
    chunkIndex: index,
    startOffset: start,
    endOffset: end,
    embedding,
  });
}
