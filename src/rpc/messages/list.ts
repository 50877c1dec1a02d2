import { create } from "@bufbuild/protobuf";
import { View } from "memory-service-client/memoryservice/v1/memory_pb.js";
import {
  type ListRequest,
  type ListResponse,
  ListResponseSchema,
  ListRequest_OrderBy as OrderBy,
} from "memory-service-client/memoryservice/v1/memory_service_pb.js";
import { assertNoViolations } from "../../memory/model/errors.ts";
import { DEFAULT_PAGE_SIZE, LIMITS } from "../../memory/model/limits.ts";
import type { ListOrder } from "../../memory/model/memory-store.ts";
import type { ListCommand, MemoryPage } from "../../memory/read/list.ts";
import { filterFromMessage } from "./fields/filter.ts";
import { messageFromMemory } from "./fields/memory.ts";
import { domainName, integerBetween, knownEnum, type Rules, violationsOf, whenSet } from "./validate.ts";

const rules: Rules<ListRequest> = {
  domain: domainName,
  orderBy: knownEnum(OrderBy),
  pageSize: whenSet(integerBetween(1, LIMITS.pageSize)),
  view: knownEnum(View),
};

const orders = {
  [OrderBy.UNSPECIFIED]: { by: "create_time", descending: true },
  [OrderBy.CREATE_TIME_DESC]: { by: "create_time", descending: true },
  [OrderBy.CREATE_TIME_ASC]: { by: "create_time", descending: false },
  [OrderBy.UPDATE_TIME_DESC]: { by: "update_time", descending: true },
  [OrderBy.UPDATE_TIME_ASC]: { by: "update_time", descending: false },
} as const satisfies Record<OrderBy, ListOrder>;

/** @throws ServiceError INVALID_ARGUMENT naming every field that breaks a rule. */
export function listCommandFromRequest(request: ListRequest, defaultDomain: string): ListCommand {
  const violations = violationsOf(request, rules);
  const filter = request.filter && filterFromMessage(request.filter, "filter", violations);
  assertNoViolations(violations);
  return {
    domain: request.domain || defaultDomain,
    filter,
    order: orders[request.orderBy],
    pageSize: request.pageSize ?? DEFAULT_PAGE_SIZE,
    pageToken: request.pageToken,
    content: request.view !== View.SNIPPET,
  };
}

export function listResponseFrom({ memories, nextPageToken }: MemoryPage): ListResponse {
  return create(ListResponseSchema, {
    memories: memories.map(({ memory, preview }) => messageFromMemory(memory, preview)),
    nextPageToken,
  });
}
