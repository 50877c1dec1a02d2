import { create } from "@bufbuild/protobuf";
import {
  type EmbeddingVersion,
  EmbeddingVersionSchema,
} from "memory-service-client/memoryservice/v1/memory_pb.js";
import type { EmbeddingVersionRecord } from "../../../memory/model/domain.ts";

/** Converts an embedding version. `version` is 0 until the database has assigned a number. */
export function messageFromEmbeddingVersion(record: EmbeddingVersionRecord): EmbeddingVersion {
  return create(EmbeddingVersionSchema, {
    version: record.version,
    model: record.model,
    modelDigest: record.digest,
    dimensions: record.dimensions,
    profile: record.profile,
    chunker: `paragraphs/${record.chunker}`,
  });
}
