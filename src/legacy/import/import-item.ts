import { create, type JsonObject } from "@bufbuild/protobuf";
import {
  type EmbeddingVersion,
  type Memory,
  Memory_Embedding_State,
  type MemoryRecord,
  MemoryRecordSchema,
} from "memory-service-client/memoryservice/v1/memory_pb.js";
import { timestampFromMicroseconds } from "../../util/proto-time.ts";
import { type ConvertedRow, withId } from "../convert/convert-row.ts";
import { withRecord } from "../convert/legacy-record.ts";
import type { LegacyRow } from "../readers/read-database.ts";
import type { RowAction } from "./choose-action.ts";

/** A row of the source with the action for it. */
export interface ImportItem {
  readonly row: LegacyRow;
  readonly converted: ConvertedRow;
  readonly action: RowAction;
}

/** Returns the old embedding of a row; undefined if the memory has to be embedded. */
export type FindEmbedding = (row: LegacyRow, converted: ConvertedRow) => Promise<Float32Array | undefined>;

/** Old embeddings to reuse, with the embedding version that they belong to. */
export interface ReusedEmbeddings {
  readonly version: EmbeddingVersion;
  readonly find: FindEmbedding;
}

/** Returns the id under which an item is stored. */
export function targetId({ action, converted }: ImportItem): string {
  return "id" in action ? action.id : converted.id;
}

/** Returns the memory that an item overwrites. */
export function overwrittenMemory({ action }: ImportItem): Memory | undefined {
  return "existing" in action ? action.existing : undefined;
}

/** Builds the record that stores an item. */
export async function buildRecord(
  item: ImportItem,
  context: {
    readonly run: string;
    readonly domain: string;
    readonly embeddings: ReusedEmbeddings | undefined;
  },
): Promise<MemoryRecord> {
  const { row, converted } = item;
  const { run, domain, embeddings } = context;
  const version = (overwrittenMemory(item)?.version ?? 0n) + 1n;
  const { id, content, source, importance, tags, metadata, record, ...times } = withId(
    converted,
    row,
    targetId(item),
  );
  const vector = await embeddings?.find(row, converted);
  const timestamp = (time: bigint | undefined) =>
    time === undefined ? undefined : timestampFromMicroseconds(time);
  const embedding =
    vector === undefined
      ? {}
      : { embedding: { state: Memory_Embedding_State.READY, version: embeddings?.version.version ?? 0 } };
  return create(MemoryRecordSchema, {
    memory: {
      id,
      domain,
      content,
      source,
      ...(importance === undefined ? {} : { importance }),
      tags: [...tags],
      metadata: withRecord(metadata, { run, version: Number(version), ...record }) as JsonObject,
      createTime: timestamp(times.createTime),
      updateTime: timestamp(times.updateTime),
      expireTime: timestamp(times.expireTime),
      version,
      ...embedding,
    },
    chunks: vector === undefined ? [] : [wholeTextChunk(content, vector)],
  });
}

function wholeTextChunk(content: string, vector: Float32Array) {
  return {
    chunkIndex: 0,
    startOffset: 0,
    endOffset: Array.from(content).length,
    embedding: littleEndian(vector),
  };
}

function littleEndian(vector: Float32Array): Uint8Array<ArrayBuffer> {
  const bytes = new DataView(new ArrayBuffer(vector.length * 4));
  for (const [n, value] of vector.entries()) bytes.setFloat32(n * 4, value, true);
  return new Uint8Array(bytes.buffer);
}
