import { create } from "@bufbuild/protobuf";
import { type Memory, MemorySchema } from "memory-service-client/memoryservice/v1/memory_pb.js";
import {
  EmbeddingMode,
  UpdateRequest_MetadataMode as MetadataMode,
  type UpdateRequest,
} from "memory-service-client/memoryservice/v1/memory_service_pb.js";
import { assertNoViolations, type FieldViolation } from "../../memory/model/errors.ts";
import type { MemoryFields } from "../../memory/model/memory.ts";
import type { UpdateCommand } from "../../memory/write/update.ts";
import { embeddingFromMessage } from "./fields/embedding.ts";
import { type ExpiryMessage, expiryFrom, expiryViolations } from "./fields/expiry.ts";
import { keyRules } from "./fields/key.ts";
import { embeddingModeFrom, memoryFieldRules } from "./store.ts";
import { knownEnum, quote, type Rules, versionNumber, violationsOf, whenSet } from "./validate.ts";

/** Allowed paths of `update_mask`. */
const PATHS = ["content", "source", "importance", "tags", "metadata", "expire_time"] as const;
type Path = (typeof PATHS)[number];

const rules: Rules<UpdateRequest> = {
  metadataMode: knownEnum(MetadataMode),
  expectedVersion: whenSet(versionNumber),
  embeddingMode: knownEnum(EmbeddingMode),
};

/** @throws ServiceError INVALID_ARGUMENT naming every field that breaks a rule. */
export function updateCommandFromRequest(request: UpdateRequest, defaultDomain: string): UpdateCommand {
  const memory = request.memory ?? create(MemorySchema);
  const mask = new Set(request.updateMask?.paths);
  const expiry = expiryOf(request, memory, mask);
  const violations: FieldViolation[] = [
    ...(request.memory === undefined ? [{ field: "memory", description: "must be set" }] : []),
    ...violationsOf(memory, { ...keyRules, ...rulesWithin(mask) }, "memory."),
    ...violationsOf(request, rules),
    ...maskViolations(request, mask),
    ...(expiry === undefined ? [] : expiryViolations(expiry, expiry.case === "expireTime" ? "memory." : "")),
  ];
  const embedding =
    request.embedding && mask.has("content")
      ? embeddingFromMessage(request.embedding, "embedding", violations)
      : undefined;
  assertNoViolations(violations);
  return {
    domain: memory.domain || defaultDomain,
    id: memory.id,
    changes: {
      ...changesFrom(memory, mask),
      ...(expiry === undefined ? {} : { expiry: expiryFrom(expiry) }),
    },
    metadataMode: request.metadataMode === MetadataMode.MERGE ? "merge" : "replace",
    expectedVersion: request.expectedVersion,
    embeddingMode: embeddingModeFrom(request.embeddingMode),
    ...(embedding === undefined ? {} : { embedding }),
  };
}

function maskViolations(request: UpdateRequest, mask: ReadonlySet<string>): FieldViolation[] {
  const violations: FieldViolation[] = [];
  const violate = (field: string, description: string) => violations.push({ field, description });
  const unknown = [...mask].find((path) => !isPath(path));
  if (unknown !== undefined) {
    violate("update_mask", `must have no other paths than ${PATHS.join(", ")}, has ${quote(unknown)}`);
  }
  if (mask.size === 0 && request.ttl === undefined) {
    violate("update_mask", `must have one of ${PATHS.join(", ")}, unless ttl is set`);
  }
  if (mask.has("expire_time") && request.ttl !== undefined) {
    violate("ttl", "must not be set together with expire_time in update_mask");
  }
  if (mask.has("metadata") && request.metadataMode === MetadataMode.UNSPECIFIED) {
    violate("metadata_mode", "must be set if update_mask has metadata");
  }
  if (request.embedding !== undefined && !mask.has("content")) {
    violate("embedding", "must not be set unless update_mask has content");
  }
  return violations;
}

/** Returns the new expiry, or undefined if the request does not change it. */
function expiryOf(
  request: UpdateRequest,
  memory: Memory,
  mask: ReadonlySet<string>,
): ExpiryMessage | undefined {
  if (request.ttl !== undefined) return { case: "ttl", value: request.ttl };
  if (!mask.has("expire_time")) return undefined;
  return memory.expireTime === undefined
    ? { case: undefined }
    : { case: "expireTime", value: memory.expireTime };
}

/** Returns the rules for the fields in the mask. Other fields are ignored, even if they are invalid. */
function rulesWithin(mask: ReadonlySet<string>): Rules<Memory> {
  return Object.fromEntries(Object.entries(memoryFieldRules).filter(([field]) => mask.has(field)));
}

function changesFrom(memory: Memory, mask: ReadonlySet<string>): Partial<MemoryFields> {
  return {
    ...(mask.has("content") ? { content: memory.content } : {}),
    ...(mask.has("source") ? { source: memory.source } : {}),
    ...(mask.has("importance") ? { importance: memory.importance } : {}),
    ...(mask.has("tags") ? { tags: [...new Set(memory.tags)] } : {}),
    ...(mask.has("metadata") ? { metadata: memory.metadata ?? {} } : {}),
  };
}

function isPath(path: string): path is Path {
  return PATHS.some((known) => known === path);
}
