import { create } from "@bufbuild/protobuf";
import {
  EmbeddingMode,
  IfExists,
  StoreOutcome,
  type StoreRequest,
  type StoreResponse,
  StoreResponseSchema,
} from "memory-service-client/memoryservice/v1/memory_service_pb.js";
import type { StoreOutcome as Outcome } from "../../memory/model/draft.ts";
import { assertNoViolations, type FieldViolation } from "../../memory/model/errors.ts";
import { LIMITS } from "../../memory/model/limits.ts";
import type { Memory } from "../../memory/model/memory.ts";
import type { StoreCommand } from "../../memory/write/store-command.ts";
import { embeddingFromMessage } from "./fields/embedding.ts";
import { expiryFrom, expiryViolations } from "./fields/expiry.ts";
import { messageFromMemory } from "./fields/memory.ts";
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

/** Rules for the fields of a memory, shared by all requests. */
export const memoryFieldRules = {
  content: all(bytesAtMost(LIMITS.contentBytes), meaningfulText, storableText),
  source: all(charactersAtMost(LIMITS.sourceLength), storableText),
  importance: whenSet(numberBetween(0, 1)),
  tags,
  metadata: whenSet(metadata),
} satisfies Rules<StoreRequest>;

const rules: Rules<StoreRequest> = {
  ...memoryFieldRules,
  domain: domainName,
  id: memoryId,
  ifExists: knownEnum(IfExists),
  embeddingMode: knownEnum(EmbeddingMode),
};

/**
 * Converts a request to store. `path` prefixes the names of fields. `violations` lists violations found earlier.
 *
 * @throws ServiceError INVALID_ARGUMENT naming every field that breaks a rule.
 */
export function storeCommandFromRequest(
  request: StoreRequest,
  defaultDomain: string,
  path = "",
  violations: readonly FieldViolation[] = [],
): StoreCommand {
  const found = [
    ...violations,
    ...violationsOf(request, rules, path),
    ...expiryViolations(request.expiry, path),
  ];
  const embedding = request.embedding && embeddingFromMessage(request.embedding, `${path}embedding`, found);
  assertNoViolations(found);
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
    embeddingMode: embeddingModeFrom(request.embeddingMode),
    ...(embedding === undefined ? {} : { embedding }),
  };
}

export function storeResponseFrom(result: { memory: Memory; outcome: Outcome }): StoreResponse {
  return create(StoreResponseSchema, {
    memory: messageFromMemory(result.memory),
    outcome: outcomeOf[result.outcome],
  });
}

export function embeddingModeFrom(mode: EmbeddingMode): StoreCommand["embeddingMode"] {
  return mode === EmbeddingMode.BACKGROUND ? "background" : "inline";
}

/** Domain values of the enum IfExists. */
export const ifExistsOf = {
  [IfExists.UNSPECIFIED]: "fail",
  [IfExists.FAIL]: "fail",
  [IfExists.REPLACE]: "replace",
  [IfExists.KEEP]: "keep",
} as const satisfies Record<IfExists, StoreCommand["ifExists"]>;

/** Enum values of the outcomes. */
export const outcomeOf = {
  created: StoreOutcome.CREATED,
  replaced: StoreOutcome.REPLACED,
  unchanged: StoreOutcome.UNCHANGED,
  kept: StoreOutcome.KEPT,
  duplicate: StoreOutcome.DUPLICATE,
} as const satisfies Record<Outcome, StoreOutcome>;
