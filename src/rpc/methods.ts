import type { DescMethod, DescService, MessageShape } from "@bufbuild/protobuf";
import { DomainService } from "memory-service-client/memoryservice/v1/domain_service_pb.js";
import {
  MemoryService,
  type SearchRequest,
  type StreamSearchRequest,
} from "memory-service-client/memoryservice/v1/memory_service_pb.js";
import { ServerService } from "memory-service-client/memoryservice/v1/server_service_pb.js";
import type { AccessLevel } from "../auth/scopes.ts";
import {
  type AuditFacts,
  auditedDomain,
  auditedFields,
  auditedIds,
  auditedName,
  batchFacts,
  createDomainList,
  type MayWrite,
  outcomeName,
} from "./audit-facts.ts";

/**
 * The access that a method needs. The server checks it before it looks anything up.
 *
 * - `per-item`: the handler checks each item or record, so that one refusal does not fail the others.
 * - `filtered`: any caller may call the method; the handler omits what the caller may not read.
 */
export type AccessRule<I> =
  | {
      /** The access level needed in each domain that the request names. */
      readonly level: AccessLevel;
      /** Returns the domain names of a request; "" is the default domain. The handler rejects a request without names. */
      readonly domains: (request: I) => readonly string[];
    }
  | "per-item"
  | "filtered";

/** How the audit log records a call that changes something. */
export interface AuditRule<I, O> {
  /** Returns what the request names; undefined for a request that changes nothing. */
  readonly request: (request: I, defaultDomain: string, mayWrite: MayWrite) => AuditFacts | undefined;
  /** Returns the result, with `outcome` among the facts. */
  readonly response: (response: O) => AuditFacts;
}

/** The rules of one method. */
export interface MethodRule<I, O> {
  readonly access: AccessRule<I>;
  /** `per-message`: the audit log records the domains of an import and the counts of its outcomes. */
  readonly audit: AuditRule<I, O> | "unaudited" | "per-message";
}

type ServiceRules<S extends DescService> = {
  readonly [M in keyof S["method"]]: MethodRule<
    MessageShape<S["method"][M]["input"]>,
    MessageShape<S["method"][M]["output"]>
  >;
};

type InDomain = { readonly domain: string };
type OfMemory = InDomain & { readonly id: string };

const inDomain = (level: AccessLevel) => ({ level, domains: ({ domain }: InDomain) => [domain] });

/** For methods whose request has to name the domain, so that an omitted name does not mean the default domain. */
const named = (level: AccessLevel) => ({
  level,
  domains: ({ name }: { readonly name: string }) => (name === "" ? [] : [name]),
});

const searched = {
  level: "read" as const,
  domains({ domain, domains, allDomains }: SearchRequest | StreamSearchRequest): readonly string[] {
    const names = domain === "" ? domains : [domain, ...domains];
    // With all_domains, the handler searches the domains that the caller may read.
    return names.length > 0 || allDomains ? names : [""];
  },
};

const domainOf = ({ domain }: InDomain, defaultDomain: string): AuditFacts => ({
  domain: auditedDomain(domain, defaultDomain),
});
const memoryOf = ({ domain, id }: OfMemory, defaultDomain: string): AuditFacts => ({
  domain: auditedDomain(domain, defaultDomain),
  ids: auditedIds([id]),
});

const memoryMethods: ServiceRules<typeof MemoryService> = {
  store: {
    access: inDomain("write"),
    audit: {
      request: memoryOf,
      response: ({ memory, outcome }) => ({
        ids: auditedIds([memory?.id ?? ""]),
        version: Number(memory?.version ?? 0n),
        outcome: outcomeName(outcome),
      }),
    },
  },
  batchStore: {
    access: "per-item",
    audit: {
      request({ items, atomic }, defaultDomain, mayWrite) {
        const domains = createDomainList(defaultDomain, mayWrite);
        for (const { domain } of items) domains.add(domain);
        return { domains: domains.names(), items: items.length, atomic };
      },
      response: batchFacts,
    },
  },
  get: { access: inDomain("read"), audit: "unaudited" },
  list: { access: inDomain("read"), audit: "unaudited" },
  update: {
    access: { level: "write", domains: ({ memory }) => [memory?.domain ?? ""] },
    audit: {
      request: ({ memory, updateMask }, defaultDomain) => ({
        ...memoryOf({ domain: memory?.domain ?? "", id: memory?.id ?? "" }, defaultDomain),
        fields: auditedFields(updateMask?.paths),
      }),
      response: ({ memory }) => ({ version: Number(memory?.version ?? 0n), outcome: "updated" }),
    },
  },
  delete: {
    access: inDomain("write"),
    audit: {
      request: memoryOf,
      response: ({ deleted }) => ({ outcome: deleted ? "deleted" : "missing" }),
    },
  },
  deleteMatching: {
    access: inDomain("write"),
    audit: {
      request: (request, defaultDomain) => (request.dryRun ? undefined : domainOf(request, defaultDomain)),
      response: ({ deleted }) => ({ deleted: Number(deleted), outcome: "deleted" }),
    },
  },
  search: { access: searched, audit: "unaudited" },
  streamSearch: { access: searched, audit: "unaudited" },
  export: { access: inDomain("read"), audit: "unaudited" },
  import: { access: "per-item", audit: "per-message" },
  retryFailed: {
    access: inDomain("write"),
    audit: {
      request: domainOf,
      response: ({ retried }) => ({ retried: Number(retried), outcome: "retried" }),
    },
  },
};

const domainMethods: ServiceRules<typeof DomainService> = {
  createDomain: {
    access: named("admin"),
    audit: {
      request: ({ name }) => ({ domain: auditedName(name) }),
      response: ({ created }) => ({ outcome: created ? "created" : "unchanged" }),
    },
  },
  getDomain: { access: { level: "read", domains: ({ name }) => [name] }, audit: "unaudited" },
  listDomains: { access: "filtered", audit: "unaudited" },
  updateDomain: {
    access: { level: "admin", domains: ({ domain }) => [domain?.name ?? ""] },
    audit: {
      request: ({ domain, updateMask }, defaultDomain) => ({
        domain: auditedDomain(domain?.name ?? "", defaultDomain),
        fields: auditedFields(updateMask?.paths),
      }),
      response: () => ({ outcome: "updated" }),
    },
  },
  deleteDomain: {
    access: named("admin"),
    audit: {
      request: ({ name }) => ({ domain: auditedName(name) }),
      response: ({ deletedMemories }) => ({ deleted: Number(deletedMemories), outcome: "deleted" }),
    },
  },
};

const serverMethods: ServiceRules<typeof ServerService> = {
  getServerInfo: { access: "filtered", audit: "unaudited" },
};

const rules = new Map<string, MethodRule<never, never>>(
  [
    [MemoryService, memoryMethods] as const,
    [DomainService, domainMethods] as const,
    [ServerService, serverMethods] as const,
  ].flatMap(([service, methods]) =>
    Object.entries(methods).map(([name, rule]) => [`${service.typeName}/${name}`, rule] as const),
  ),
);

/** Returns the rules of a method; undefined for a method without rules, which no caller may call. */
export function methodRuleOf(method: DescMethod): MethodRule<unknown, unknown> | undefined {
  const rule: unknown = rules.get(`${method.parent.typeName}/${method.localName}`);
  return rule as MethodRule<unknown, unknown> | undefined;
}

/** Returns whether a service needs no credentials: health and reflection are public, and used by probes. */
export function isPublic(service: DescService): boolean {
  return /^grpc\.(health|reflection)\.v1(alpha)?\.\w+$/.test(service.typeName);
}

/** Maximum size of a message to a public service, so that callers without credentials cannot fill the memory. */
export const MAX_PUBLIC_MESSAGE_BYTES = 16 * 1024;
