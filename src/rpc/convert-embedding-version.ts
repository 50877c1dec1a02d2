import { create } from "@bufbuild/protobuf";
import {
  type EmbeddingVersion,
  EmbeddingVersionSchema,
} from "memory-service-client/memoryservice/v1/memory_pb.js";
import type { EmbeddingSpace } from "../embedding/embedder.ts";

/** `version` is 0 while the database has not numbered it. */
export function messageFromSpace(
  space: EmbeddingSpace,
  { version, chunker }: { readonly version: number; readonly chunker: number },
): EmbeddingVersion {
  return create(EmbeddingVersionSchema, {
    version,
    model: space.model,
    modelDigest: space.digest,
    dimensions: space.dimensions,
    profile: space.profile,
    chunker: `paragraphs/${chunker}`,
  });
}
