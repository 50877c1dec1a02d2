import { create, toBinary } from "@bufbuild/protobuf";
import {
  ErrorReason,
  type ItemError,
  ItemErrorSchema,
} from "memory-service-client/memoryservice/v1/error_reason_pb.js";
import {
  type BatchStoreRequest,
  type BatchStoreResponse,
  type BatchStoreResponse_Result,
  BatchStoreResponse_ResultSchema,
  BatchStoreResponseSchema,
} from "memory-service-client/memoryservice/v1/memory_service_pb.js";
import type { StoreResult } from "../../memory/model/draft.ts";
import { assertNoViolations, ServiceError } from "../../memory/model/errors.ts";
import { LIMITS, MAX_RESPONSE_BYTES } from "../../memory/model/limits.ts";
import type { Memory } from "../../memory/model/memory.ts";
import { memoryBytes } from "../../memory/read/message-size.ts";
import type { BatchStoreCommand } from "../../memory/write/batch-store.ts";
import type { StoreCommand } from "../../memory/write/store-command.ts";
import type { Denial } from "../interceptors/authorize.ts";
import { codeByReason, outgoingParts } from "../interceptors/errors.ts";
import { messageFromMemory } from "./fields/memory.ts";
import { outcomeOf, storeCommandFromRequest } from "./store.ts";

/**
 * @param denialOf Checks access to the domain of an item. A denial becomes the error of the item.
 * @throws ServiceError INVALID_ARGUMENT naming every field that breaks a rule. Violations in items throw only with
 * `atomic`.
 */
export function batchCommandFromRequest(
  request: BatchStoreRequest,
  defaultDomain: string,
  denialOf: Denial,
): BatchStoreCommand {
  const { atomic } = request;
  const { length } = request.items;
  if (length === 0 || length > LIMITS.batchItems) {
    const description = `must have 1 to ${LIMITS.batchItems} items, has ${length}`;
    assertNoViolations([{ field: "items", description }]);
  }

  /** Index of the first item of each domain and id. */
  const firsts = new Map<string, number>();
  const items = request.items.map((item, index): StoreCommand | ServiceError => {
    const denial = denialOf(item.domain);
    if (denial !== undefined) return denial;
    const path = `items[${index}].`;
    const key = `${item.domain || defaultDomain} ${item.id}`;
    const first = item.id === "" ? undefined : firsts.get(key);
    if (first === undefined) firsts.set(key, index);
    try {
      const repeated =
        first === undefined
          ? []
          : [{ field: `${path}id`, description: `must differ from items[${first}].id in the same domain` }];
      return storeCommandFromRequest(item, defaultDomain, path, repeated);
    } catch (error) {
      if (error instanceof ServiceError) return error;
      throw error;
    }
  });
  if (atomic) {
    assertNoViolations(items.flatMap((item) => (item instanceof ServiceError ? item.violations : [])));
  }
  return { items, atomic };
}

export function batchResponseFrom(results: readonly (StoreResult | ServiceError)[]): BatchStoreResponse {
  const outcomes = results.map((result) => (result instanceof ServiceError ? failure(result) : result));
  let bytes = 0;
  for (const result of outcomes) if (!("outcome" in result)) bytes += bytesBeyondItem(result);
  return create(BatchStoreResponseSchema, {
    results: outcomes.map((result) => {
      if (!("outcome" in result)) return result;
      const memory: Memory = { ...result.memory, content: "", metadata: {} };
      const size = memoryBytes(memory);
      if (bytes + size > MAX_LABELLED_BYTES) {
        return success({ ...memory, source: "", tags: [] }, result.outcome);
      }
      bytes += size;
      return success(memory, result.outcome);
    }),
  });
}

/**
 * Maximum size of the memories with sources and tags. Sources and tags of existing memories can be larger than those
 * sent and can exceed a message. The limit leaves room for 1,000 memories without them, or 1,000 errors.
 */
const ITEM_BYTES = 1_024;
const MAX_LABELLED_BYTES = MAX_RESPONSE_BYTES - LIMITS.batchItems * ITEM_BYTES;

function bytesBeyondItem(error: BatchStoreResponse_Result): number {
  return Math.max(0, toBinary(BatchStoreResponse_ResultSchema, error).length - ITEM_BYTES);
}

function success(memory: Memory, outcome: StoreResult["outcome"]): BatchStoreResponse_Result {
  return create(BatchStoreResponse_ResultSchema, {
    result: {
      case: "success",
      value: { memory: messageFromMemory(memory), outcome: outcomeOf[outcome] },
    },
  });
}

function failure(error: ServiceError): BatchStoreResponse_Result {
  return create(BatchStoreResponse_ResultSchema, {
    result: { case: "error", value: itemErrorFrom(error) },
  });
}

/** Converts the error of one item, with the same details as an error of the whole call. */
export function itemErrorFrom(error: ServiceError): ItemError {
  const { message, metadata, violations } = outgoingParts(error);
  return create(ItemErrorSchema, {
    code: codeByReason[error.reason],
    message,
    reason: ErrorReason[error.reason],
    metadata,
    fieldViolations: violations,
  });
}
