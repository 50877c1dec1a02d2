import type { DeleteRequest, GetRequest } from "memory-service-client/memoryservice/v1/memory_service_pb.js";
import { assertNoViolations } from "../../../memory/model/errors.ts";
import type { MemoryKey } from "../../../memory/read/get.ts";
import type { DeleteCommand } from "../../../memory/write/delete.ts";
import {
  all,
  domainName,
  memoryId,
  mustBeSet,
  type Rules,
  versionNumber,
  violationsOf,
  whenSet,
} from "../validate.ts";

/** Rules of requests that need the id of a memory. An empty domain selects the default domain. */
export const keyRules = { domain: domainName, id: all(mustBeSet, memoryId) } satisfies Rules<GetRequest>;

const deleteRules: Rules<DeleteRequest> = { ...keyRules, expectedVersion: whenSet(versionNumber) };

/** @throws ServiceError INVALID_ARGUMENT */
export function keyFromRequest(request: GetRequest, defaultDomain: string): MemoryKey {
  assertNoViolations(violationsOf(request, keyRules));
  return { domain: request.domain || defaultDomain, id: request.id };
}

/** @throws ServiceError INVALID_ARGUMENT */
export function deleteCommandFromRequest(request: DeleteRequest, defaultDomain: string): DeleteCommand {
  assertNoViolations(violationsOf(request, deleteRules));
  return {
    domain: request.domain || defaultDomain,
    id: request.id,
    allowMissing: request.allowMissing,
    expectedVersion: request.expectedVersion,
  };
}
