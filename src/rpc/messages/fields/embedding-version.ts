import { create } from "@bufbuild/protobuf";
import {
  type EmbeddingVersion,
  EmbeddingVersionSchema,
} from "memory-service-client/memoryservice/v1/memory_pb.js";
import type { EmbeddingVersionRecord } from "../../../memory/model/domain.ts";

/** `version` is 0 while the database has not numbered it. */
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
