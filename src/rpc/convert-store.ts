import { create } from "@bufbuild/protobuf";
import {
  EmbeddingMode,
  IfExists,
  StoreOutcome,
  type StoreRequest,
  type StoreResponse,
  StoreResponseSchema,
} from "memory-service-client/memoryservice/v1/memory_service_pb.js";
import { assertNoViolations, type FieldViolation, ServiceError } from "../errors.ts";
import { LIMITS } from "../memory/limits.ts";
import type { Expiry, Memory, Microseconds } from "../memory/memory.ts";
import type { StoreOutcome as Outcome, StoreCommand } from "../memory/store.ts";
import { messageFromMemory } from "./convert-memory.ts";
import { microsecondsFromDuration, microsecondsFromTimestamp } from "./convert-time.ts";
import {
  all,
  bytesAtMost,
  charactersAtMost,
  domainName,
  knownEnum,
  meaningfulText,
  memoryId,
  metadata,
  numberBetween,
  type Rules,
  storableText,
  tags,
  violationsOf,
  whenSet,
} from "./validate.ts";

const rules: Rules<StoreRequest> = {
  content: all(bytesAtMost(LIMITS.contentBytes), meaningfulText, storableText),
  domain: domainName,
  id: memoryId,
  source: all(charactersAtMost(LIMITS.sourceLength), storableText),
  importance: whenSet(numberBetween(0, 1)),
  tags,
  metadata: whenSet(metadata),
  ifExists: knownEnum(IfExists),
  embeddingMode: knownEnum(EmbeddingMode),
};

const MAX_TTL: Microseconds = LIMITS.ttlSeconds * 1_000_000n;

/** @throws ServiceError INVALID_ARGUMENT naming every field that breaks a rule. */
export function storeCommandFromRequest(request: StoreRequest, defaultDomain: string): StoreCommand {
  const violations = [...violationsOf(request, rules), ...expiryViolations(request.expiry)];
  assertNoViolations(violations);
  if (request.embedding !== undefined) {
    throw new ServiceError("NOT_IMPLEMENTED", "the field embedding is not supported by this server yet");
  }
  return {
    domain: request.domain || defaultDomain,
    id: request.id || undefined,
    content: request.content,
    source: request.source,
    importance: request.importance,
    tags: [...new Set(request.tags)],
    metadata: request.metadata ?? {},
    expiry: expiryFrom(request.expiry),
    ifExists: ifExistsOf[request.ifExists],
    embeddingMode: request.embeddingMode === EmbeddingMode.BACKGROUND ? "background" : "inline",
  };
}

export function storeResponseFrom(result: { memory: Memory; outcome: Outcome }): StoreResponse {
  return create(StoreResponseSchema, {
    memory: messageFromMemory(result.memory),
    outcome: outcomeOf[result.outcome],
  });
}

const ifExistsOf = {
  [IfExists.UNSPECIFIED]: "fail",
  [IfExists.FAIL]: "fail",
  [IfExists.REPLACE]: "replace",
  [IfExists.KEEP]: "keep",
} as const satisfies Record<IfExists, StoreCommand["ifExists"]>;

const outcomeOf = {
  created: StoreOutcome.CREATED,
  replaced: StoreOutcome.REPLACED,
  unchanged: StoreOutcome.UNCHANGED,
  kept: StoreOutcome.KEPT,
} as const satisfies Record<Outcome, StoreOutcome>;

function expiryFrom(expiry: StoreRequest["expiry"]): Expiry {
  switch (expiry.case) {
    case "expireTime":
      return { kind: "at", time: microsecondsFromTimestamp(expiry.value) };
    case "ttl":
      return { kind: "after", ttl: microsecondsFromDuration(expiry.value) };
    case undefined:
      return { kind: "never" };
  }
}

function expiryViolations(expiry: StoreRequest["expiry"]): FieldViolation[] {
  if (expiry.case === "expireTime") {
    const time = microsecondsFromTimestamp(expiry.value);
    const now = BigInt(Date.now()) * 1_000n;
    const { nanos } = expiry.value;
    return nanos >= 0 && nanos <= 999_999_999 && time > now && time <= now + MAX_TTL
      ? []
      : [{ field: "expire_time", description: "must be in the future, at most 100 years ahead" }];
  }
  if (expiry.case === "ttl") {
    const ttl = microsecondsFromDuration(expiry.value);
    const { nanos } = expiry.value;
    return nanos >= 0 && nanos <= 999_999_999 && ttl > 0n && ttl <= MAX_TTL
      ? []
      : [{ field: "ttl", description: "must be from 1 microsecond to 100 years" }];
  }
  return [];
}
