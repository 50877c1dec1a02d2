import type { DescMethod, DescService, MessageShape } from "@bufbuild/protobuf";
import { DomainService } from "memory-service-client/memoryservice/v1/domain_service_pb.js";
import {
  MemoryService,
  type SearchRequest,
  type StreamSearchRequest,
} from "memory-service-client/memoryservice/v1/memory_service_pb.js";
import { ServerService } from "memory-service-client/memoryservice/v1/server_service_pb.js";
import type { AccessLevel } from "../auth/scopes.ts";

/**
 * What a method needs: a level in each domain that its request names, decided before anything is looked up.
 *
 * - each: the handler decides about each item or record, so that others need not fail with it.
 * - shown: any caller; the handler leaves out what the caller may not read.
 */
export type AccessRule<M> =
  | {
      readonly level: AccessLevel;
      /** Names as in the request; "" stands for the default domain. None: the handler will refuse the request. */
      readonly domains: (request: M) => readonly string[];
    }
  | "each"
  | "shown";

type ServiceRules<S extends DescService> = {
  readonly [M in keyof S["method"]]: AccessRule<MessageShape<S["method"][M]["input"]>>;
};

type InDomain = { readonly domain: string };

const inDomain = (level: AccessLevel) => ({ level, domains: ({ domain }: InDomain) => [domain] });

/** Domains whose name is required, so that none stands for the default one. */
const named = (level: AccessLevel) => ({
  level,
  domains: ({ name }: { readonly name: string }) => (name === "" ? [] : [name]),
});

const searched = {
  level: "read" as const,
  domains({ domain, domains, allDomains }: SearchRequest | StreamSearchRequest): readonly string[] {
    const names = domain === "" ? domains : [domain, ...domains];
    // Of all domains the handler takes those that the caller may read.
    return names.length > 0 || allDomains ? names : [""];
  },
};

const memoryRules: ServiceRules<typeof MemoryService> = {
  store: inDomain("write"),
  batchStore: "each",
  get: inDomain("read"),
  list: inDomain("read"),
  update: { level: "write", domains: ({ memory }) => [memory?.domain ?? ""] },
  delete: inDomain("write"),
  deleteMatching: inDomain("write"),
  search: searched,
  streamSearch: searched,
  export: inDomain("read"),
  import: "each",
  retryFailed: inDomain("write"),
};

const domainRules: ServiceRules<typeof DomainService> = {
  createDomain: named("admin"),
  getDomain: { level: "read", domains: ({ name }) => [name] },
  listDomains: "shown",
  updateDomain: { level: "admin", domains: ({ domain }) => [domain?.name ?? ""] },
  deleteDomain: named("admin"),
};

const serverRules: ServiceRules<typeof ServerService> = { getServerInfo: "shown" };

const rules = new Map<string, AccessRule<never>>(
  [
    [MemoryService, memoryRules] as const,
    [DomainService, domainRules] as const,
    [ServerService, serverRules] as const,
  ].flatMap(([service, rulesOf]) =>
    Object.entries(rulesOf).map(([name, rule]) => [`${service.typeName}/${name}`, rule] as const),
  ),
);

/** The rule of a method; undefined: nobody has thought about it, so nobody may call it. */
export function accessRuleOf(method: DescMethod): AccessRule<unknown> | undefined {
  return rules.get(`${method.parent.typeName}/${method.localName}`) as AccessRule<unknown> | undefined;
}

/** True for services that need no credentials: what they tell is public, or meant for probes. */
export function isOpen(service: DescService): boolean {
  return /^grpc\.(health|reflection)\.v1(alpha)?\.\w+$/.test(service.typeName);
}

/** Most bytes of a message to such a service: whoever has no credentials must not fill the memory. */
export const MAX_OPEN_MESSAGE_BYTES = 16 * 1024;
