import type { RetryFailedRequest } from "memory-service-client/memoryservice/v1/memory_service_pb.js";
import type { RetryFailedCommand } from "../../memory/embed/retry-failed.ts";
import { assertNoViolations } from "../../memory/model/errors.ts";
import { filterFromMessage } from "./fields/filter.ts";
import { domainName, type Rules, violationsOf } from "./validate.ts";

const rules: Rules<RetryFailedRequest> = { domain: domainName };

/** @throws ServiceError INVALID_ARGUMENT naming every field that breaks a rule. */
export function retryFailedCommandFromRequest(
  request: RetryFailedRequest,
  defaultDomain: string,
): RetryFailedCommand {
  const violations = violationsOf(request, rules);
  const filter = request.filter && filterFromMessage(request.filter, "filter", violations);
  assertNoViolations(violations);
  return { domain: request.domain || defaultDomain, filter };
}
