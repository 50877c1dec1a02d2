import { create } from "@bufbuild/protobuf";
import {
  type CreateDomainRequest,
  type DeleteDomainRequest,
  Domain_IndexState,
  type Domain as DomainMessage,
  DomainSchema,
  type GetDomainRequest,
  type ListDomainsRequest,
  type UpdateDomainRequest,
} from "memory-service-client/memoryservice/v1/domain_service_pb.js";
import type { CreateDomainCommand } from "../../memory/domains/create-domain.ts";
import type { DomainReport } from "../../memory/domains/domain-report.ts";
import type { DomainChanges, DomainFigures } from "../../memory/model/domain.ts";
import { assertNoViolations, type FieldViolation } from "../../memory/model/errors.ts";
import { DEFAULT_DOMAIN_PAGE_SIZE, LIMITS } from "../../memory/model/limits.ts";
import { timestampFromMicroseconds } from "../../util/proto-time.ts";
import { messageFromEmbeddingVersion } from "./fields/embedding-version.ts";
import {
  all,
  charactersAtMost,
  domainName,
  integerBetween,
  quote,
  type Rule,
  type Rules,
  storableText,
  violationsOf,
  whenSet,
} from "./validate.ts";

/** Maximum length of names. Names in PostgreSQL and Ollama are shorter. */
const NAME_LENGTH = 256;

const requiredDomainName: Rule<string> = (value) => (value === "" ? "must not be empty" : domainName(value));
const description = all(charactersAtMost(LIMITS.descriptionLength), storableText);
const name = all(charactersAtMost(NAME_LENGTH), storableText);

const createRules: Rules<CreateDomainRequest> = {
  name: requiredDomainName,
  description,
  textSearchConfig: name,
  embeddingModel: name,
  dimensions: whenSet(integerBetween(1, 2_000)),
};

/** @throws ServiceError INVALID_ARGUMENT naming every field that breaks a rule. */
export function createCommandFromRequest(request: CreateDomainRequest): CreateDomainCommand {
  assertNoViolations(violationsOf(request, createRules));
  return {
    name: request.name,
    description: request.description,
    textSearchConfig: request.textSearchConfig || undefined,
    embeddingModel: request.embeddingModel || undefined,
    requestedDimensions: request.dimensions,
    deduplicateContent: request.deduplicateContent,
  };
}

/** @throws ServiceError INVALID_ARGUMENT */
export function domainFromRequest(request: GetDomainRequest, defaultDomain: string): string {
  assertNoViolations(violationsOf(request, { name: domainName }));
  return request.name || defaultDomain;
}

/** @throws ServiceError INVALID_ARGUMENT */
export function pageFromRequest(request: ListDomainsRequest): { size: number; token: string } {
  assertNoViolations(
    violationsOf<ListDomainsRequest>(request, { pageSize: whenSet(integerBetween(1, LIMITS.pageSize)) }),
  );
  return { size: request.pageSize ?? DEFAULT_DOMAIN_PAGE_SIZE, token: request.pageToken };
}

/** Rules of the fields allowed in `update_mask`, by their proto names. */
const changeable = {
  description: { description },
  text_search_config: { textSearchConfig: name },
} as const satisfies Record<string, Rules<DomainMessage>>;

/** @throws ServiceError INVALID_ARGUMENT naming every field that breaks a rule. */
export function updateCommandFromRequest(
  request: UpdateDomainRequest,
  defaultDomain: string,
  defaultTextSearchConfig: string,
): { readonly name: string } & DomainChanges {
  const domain = request.domain ?? create(DomainSchema);
  const mask = new Set(request.updateMask?.paths);
  assertNoViolations([
    ...(request.domain === undefined ? [{ field: "domain", description: "must be set" }] : []),
    ...violationsOf(domain, { name: domainName }, "domain."),
    ...Object.entries(changeable).flatMap(([path, rules]) =>
      mask.has(path) ? violationsOf<DomainMessage>(domain, rules, "domain.") : [],
    ),
    ...maskViolations(mask),
  ]);
  return {
    name: domain.name || defaultDomain,
    ...(mask.has("description") ? { description: domain.description } : {}),
    ...(mask.has("text_search_config")
      ? { textSearchConfig: domain.textSearchConfig || defaultTextSearchConfig }
      : {}),
  };
}

function maskViolations(mask: ReadonlySet<string>): FieldViolation[] {
  const field = "update_mask";
  if (mask.size === 0) return [{ field, description: "must not be empty" }];
  const unknown = [...mask].find((path) => !Object.hasOwn(changeable, path));
  if (unknown === undefined) return [];
  const allowed = Object.keys(changeable).join(", ");
  return [{ field, description: `must have no other paths than ${allowed}, has ${quote(unknown)}` }];
}

/** @throws ServiceError INVALID_ARGUMENT if the name is invalid or not confirmed. */
export function deletedNameFromRequest(request: DeleteDomainRequest): string {
  const violations = violationsOf(request, { name: requiredDomainName });
  if (violations.length === 0 && request.confirmName !== request.name) {
    violations.push({ field: "confirm_name", description: `must repeat the name ${quote(request.name)}` });
  }
  assertNoViolations(violations);
  return request.name;
}

const indexStates = {
  ready: Domain_IndexState.READY,
  building: Domain_IndexState.BUILDING,
  degraded: Domain_IndexState.DEGRADED,
} as const satisfies Record<DomainFigures["indexState"], Domain_IndexState>;

export function messageFromDomain({ domain, embeddingVersion, figures }: DomainReport): DomainMessage {
  return create(DomainSchema, {
    name: domain.name,
    description: domain.description,
    createTime: timestampFromMicroseconds(domain.createTime),
    textSearchConfig: domain.textSearchConfig,
    ...(embeddingVersion === undefined
      ? {}
      : { embeddingVersion: messageFromEmbeddingVersion(embeddingVersion) }),
    deduplicateContent: domain.deduplicateContent,
    memoryCount: figures.memories,
    pendingCount: figures.pending,
    failedCount: figures.failed,
    sizeBytes: figures.sizeBytes,
    ...(figures.lastWriteTime === undefined
      ? {}
      : { lastWriteTime: timestampFromMicroseconds(figures.lastWriteTime) }),
    countsAsOf: timestampFromMicroseconds(figures.asOf),
    indexState: indexStates[figures.indexState],
  });
}
