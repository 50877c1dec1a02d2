import type { DeleteMatchingRequest } from "memory-service-client/memoryservice/v1/memory_service_pb.js";
import { assertNoViolations } from "../../memory/model/errors.ts";
import type { DeleteMatchingCommand } from "../../memory/write/delete-matching.ts";
import { filterFromMessage } from "./fields/filter.ts";
import { domainName, type Rules, violationsOf } from "./validate.ts";

const rules: Rules<DeleteMatchingRequest> = {
  domain: domainName,
  filter: (value) =>
    value === undefined ? "must be set; call DeleteDomain to delete all memories of a domain" : undefined,
};

/** @throws ServiceError INVALID_ARGUMENT naming every field that breaks a rule. */
export function deleteMatchingCommandFromRequest(
  request: DeleteMatchingRequest,
  defaultDomain: string,
): DeleteMatchingCommand {
  const violations = violationsOf(request, rules);
  const filter = request.filter && filterFromMessage(request.filter, "filter", violations);
  assertNoViolations(violations);
  if (filter === undefined) throw new Error("a filter without violations was not converted");
  return { domain: request.domain || defaultDomain, filter, dryRun: request.dryRun };
}
