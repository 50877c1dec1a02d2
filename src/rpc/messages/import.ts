import { create, toBinary } from "@bufbuild/protobuf";
import type { Timestamp } from "@bufbuild/protobuf/wkt";
import {
  type EmbeddingVersion,
  Memory_Embedding_State,
  type Memory as MemoryMessage,
  type MemoryRecord,
  type MemoryRecord_Chunk,
} from "memory-service-client/memoryservice/v1/memory_pb.js";
import {
  IfExists,
  type ImportRequest,
  type ImportRequest_Options,
  type ImportResponse,
  type ImportResponse_Rejection,
  ImportResponse_RejectionSchema,
  ImportResponseSchema,
  ImportRequest_Options_OnError as OnError,
} from "memory-service-client/memoryservice/v1/memory_service_pb.js";
import type { EmbeddedChunk } from "../../memory/model/draft.ts";
import { assertNoViolations, type FieldViolation, ServiceError } from "../../memory/model/errors.ts";
import { LIMITS, MAX_RESPONSE_BYTES } from "../../memory/model/limits.ts";
import type { ImportCommand, ImportReport, Rejection } from "../../memory/write/import/import.ts";
import type { BadRecord, ImportedRecord } from "../../memory/write/import/import-record.ts";
import { isTimestamp, microsecondsFromTimestamp } from "../../util/proto-time.ts";
import { truncateText } from "../../util/truncate-text.ts";
import type { Denial } from "../interceptors/authorize.ts";
import { itemErrorFrom } from "./batch-store.ts";
import { ifExistsOf } from "./store.ts";
import {
  all,
  charactersAtMost,
  domainName,
  finiteNumber,
  importedMetadata,
  knownEnum,
  mustBeSet,
  type Rule,
  type Rules,
  storableText,
  violationsOf,
  whenSet,
} from "./validate.ts";

const optionRules: Rules<ImportRequest_Options> = {
  domain: domainName,
  ifExists: knownEnum(IfExists),
  onError: knownEnum(OnError),
};

const time: Rule<Timestamp | undefined> = (value) =>
  value === undefined || isTimestamp(value) ? undefined : "must be a time in the years 1 to 9999";

/** Highest version that an import can preserve. Leaves room for all later changes. */
const MAX_VERSION = 2n ** 62n;

/** Limits of the database only. An export may contain values that Store rejects. */
const memoryRules: Rules<MemoryMessage> = {
  id: all(mustBeSet, charactersAtMost(LIMITS.idLength), storableText),
  domain: domainName,
  content: storableText,
  source: storableText,
  importance: whenSet(finiteNumber),
  tags: (value) => {
    for (const [index, tag] of value.entries()) {
      const wrong = storableText(tag);
      if (wrong !== undefined) return `tag ${index} ${wrong}`;
    }
    return undefined;
  },
  metadata: whenSet(importedMetadata),
  createTime: time,
  updateTime: time,
  expireTime: time,
  version: (value) =>
    value >= 0n && value <= MAX_VERSION ? undefined : `must be from 0 to ${MAX_VERSION}, got ${value}`,
};

/** Maximum length of an id in a rejection, because a rejected id can have any length. */
const MAX_SHOWN_ID = 100;

/** Maximum size of a field number and a length, in bytes. */
const REJECTION_OVERHEAD = 8;

/**
 * Reads the options of an import and converts its records as they arrive.
 *
 * @param denialOf Checks access to a domain. A denied domain in the options fails the call; in a record, it fails the
 * record.
 * @throws ServiceError INVALID_ARGUMENT, PERMISSION_DENIED. Iterating over the records throws for a message without a
 * record.
 */
export async function importCommandFromRequests(
  requests: AsyncIterable<ImportRequest>,
  defaultDomain: string,
  denialOf: Denial,
): Promise<ImportCommand & { readonly domain: string }> {
  const messages = requests[Symbol.asyncIterator]();
  const first = await messages.next();
  if (first.done || first.value.item.case !== "options") {
    throw misplaced("options", "must be the first message");
  }
  const options = first.value.item.value;
  const { domain, embeddingVersion } = options;
  const denial = domain === "" ? undefined : denialOf(domain);
  if (denial !== undefined) throw denial;
  assertNoViolations(violationsOf(options, optionRules, "options."));

  async function* records() {
    // Leaving the loop early also ends the requests.
    for await (const { item } of { [Symbol.asyncIterator]: () => messages }) {
      if (item.case === "options") throw misplaced("options", "must be the first message only");
      if (item.case === undefined) throw misplaced("item", "must be options or record");
      yield recordFrom(item.value, { domain, defaultDomain, denialOf, embeddingVersion });
    }
  }

  return {
    domain,
    ifExists: ifExistsOf[options.ifExists],
    onError: options.onError === OnError.CONTINUE ? "continue" : "stop",
    embeddingVersion: embeddingVersion && spaceFrom(embeddingVersion),
    records: records(),
  };
}

export function importResponseFrom(report: ImportReport): ImportResponse {
  const { created, replaced, unchanged, kept, duplicate, expired, rejected } = report;
  return create(ImportResponseSchema, {
    received: BigInt(created + replaced + unchanged + kept + duplicate + expired + rejected),
    created: BigInt(created),
    replaced: BigInt(replaced),
    unchanged: BigInt(unchanged),
    kept: BigInt(kept),
    duplicates: BigInt(duplicate),
    expired: BigInt(expired),
    rejected: BigInt(rejected),
    rejections: rejectionsThatFit(report.rejections),
    stopped: report.stopped,
  });
}

/** Returns the first rejections, up to the size of one message. */
function rejectionsThatFit(rejections: readonly Rejection[]): ImportResponse_Rejection[] {
  let bytes = 0;
  const messages = rejections.map(({ index, id, error }) =>
    create(ImportResponse_RejectionSchema, { index: BigInt(index), id, error: itemErrorFrom(error) }),
  );
  return messages.filter((message) => {
    bytes += toBinary(ImportResponse_RejectionSchema, message).length + REJECTION_OVERHEAD;
    return bytes <= MAX_RESPONSE_BYTES;
  });
}

interface RecordContext {
  /** Domain of all records. Empty to use the domain of each record. */
  readonly domain: string;
  readonly defaultDomain: string;
  readonly denialOf: Denial;
  readonly embeddingVersion: EmbeddingVersion | undefined;
}

function recordFrom(record: MemoryRecord, context: RecordContext): ImportedRecord | BadRecord {
  const { memory } = record;
  const violations: FieldViolation[] = [];
  if (memory === undefined) {
    violations.push({ field: "record.memory", description: "must be set" });
    return { id: "", error: badRecord(violations) };
  }
  const shownId = truncateText(memory.id, MAX_SHOWN_ID);
  const denial = context.denialOf(context.domain || memory.domain);
  if (denial !== undefined) return { id: shownId, error: denial };
  violations.push(...violationsOf(memory, memoryRules, "record.memory."));
  const chunks = chunksFrom(record, context.embeddingVersion, violations);
  if (violations.length > 0) return { id: shownId, error: badRecord(violations) };
  return {
    id: memory.id,
    domain: context.domain || memory.domain || context.defaultDomain,
    content: memory.content,
    source: memory.source,
    importance: memory.importance,
    tags: memory.tags,
    metadata: memory.metadata ?? {},
    expiry:
      memory.expireTime === undefined
        ? { kind: "never" }
        : { kind: "at", time: microsecondsFromTimestamp(memory.expireTime) },
    preserved: {
      createTime: memory.createTime && microsecondsFromTimestamp(memory.createTime),
      updateTime: memory.updateTime && microsecondsFromTimestamp(memory.updateTime),
      version: memory.version === 0n ? undefined : memory.version,
    },
    chunks,
  };
}

function badRecord(violations: readonly FieldViolation[]): ServiceError {
  try {
    assertNoViolations(violations);
  } catch (error) {
    if (error instanceof ServiceError) return error;
  }
  throw new Error("a bad record has no violations");
}

/** Returns the chunks if they have the embedding version of the import. */
function chunksFrom(
  { memory, chunks }: MemoryRecord,
  embeddingVersion: EmbeddingVersion | undefined,
  violations: FieldViolation[],
): EmbeddedChunk[] | undefined {
  if (embeddingVersion === undefined || chunks.length === 0) return undefined;
  const { state, version } = memory?.embedding ?? {};
  if (state !== Memory_Embedding_State.READY || version !== embeddingVersion.version) return undefined;
  const read: EmbeddedChunk[] = [];
  for (const [index, chunk] of chunks.entries()) {
    const wrong = chunkProblem(chunk, index, embeddingVersion.dimensions);
    if (wrong !== undefined) {
      violations.push({ field: `record.chunks[${index}].${wrong.field}`, description: wrong.description });
      return undefined;
    }
    read.push({ start: chunk.startOffset, end: chunk.endOffset, vector: vectorFrom(chunk.embedding) });
  }
  return read;
}

function chunkProblem(
  { chunkIndex, startOffset, endOffset, embedding }: MemoryRecord_Chunk,
  index: number,
  dimensions: number,
): FieldViolation | undefined {
  const bytes = dimensions * Float32Array.BYTES_PER_ELEMENT;
  if (chunkIndex !== index) {
    return { field: "chunk_index", description: `must be ${index}, its position, got ${chunkIndex}` };
  }
  if (startOffset < 0)
    return { field: "start_offset", description: `must be at least 0, got ${startOffset}` };
  if (endOffset <= startOffset) {
    return { field: "end_offset", description: `must be above start_offset, got ${endOffset}` };
  }
  if (embedding.length !== bytes) {
    return {
      field: "embedding",
      description: `must have ${bytes} bytes for ${dimensions} dimensions, has ${embedding.length}`,
    };
  }
  const vector = vectorFrom(embedding);
  if (!vector.every(Number.isFinite)) return { field: "embedding", description: "must hold finite numbers" };
  if (vector.every((value) => value === 0)) return { field: "embedding", description: "must not be all 0" };
  return undefined;
}

function vectorFrom(bytes: Uint8Array): Float32Array {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const size = Float32Array.BYTES_PER_ELEMENT;
  return Float32Array.from({ length: bytes.length / size }, (_, n) => view.getFloat32(n * size, true));
}

/** Converts an embedding version. An unknown chunker gets revision -1, which matches none of this service's. */
function spaceFrom({ model, modelDigest, dimensions, profile, chunker }: EmbeddingVersion) {
  const revision = /^paragraphs\/(\d{1,9})$/.exec(chunker)?.[1];
  return { model, digest: modelDigest, dimensions, profile, chunker: Number(revision ?? -1) };
}

function misplaced(field: string, description: string): ServiceError {
  return new ServiceError("INVALID_ARGUMENT", `${field}: ${description}`, {
    violations: [{ field, description }],
  });
}
