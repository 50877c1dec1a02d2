import type { DescMethod, DescService, MessageShape } from "@bufbuild/protobuf";
import { DomainService } from "memory-service-client/memoryservice/v1/domain_service_pb.js";
import {
  type BatchStoreResponse,
  MemoryService,
  StoreOutcome,
} from "memory-service-client/memoryservice/v1/memory_service_pb.js";
import { startOf } from "../util/truncate-text.ts";

/** What goes into the line, beside who and when. */
export type AuditFacts = Readonly<Record<string, unknown>>;

/** Whether the caller may change what is in a domain. */
export type MayWrite = (domain: string) => boolean;

/** What to write down of a call that changes something. */
export interface AuditRule<I, O> {
  /** What the request names; undefined: it changes nothing, and need not be written down. */
  readonly asked: (request: I, defaultDomain: string, mayWrite: MayWrite) => AuditFacts | undefined;
  /** What became of it; `outcome` is one of the facts. */
  readonly done: (response: O) => AuditFacts;
}

type ServiceRules<S extends DescService> = {
  readonly [M in keyof S["method"]]:
    | AuditRule<MessageShape<S["method"][M]["input"]>, MessageShape<S["method"][M]["output"]>>
    | "reads"
    | "streams";
};

/** Of a bulk call: as many as one line bears. */
const MAX_IDS = 100;
const MAX_DOMAINS = 1_000;
const MAX_REFUSED_DOMAINS = 20;

/** Names that are none are refused, and still written down. */
const MAX_NAME = 64;

const memoryRules: ServiceRules<typeof MemoryService> = {
  store: {
    asked: ({ domain, id }, defaultDomain) => ({ domain: named(domain, defaultDomain), ids: idsFrom([id]) }),
    done: ({ memory, outcome }) => ({
      ids: idsFrom([memory?.id ?? ""]),
      version: Number(memory?.version ?? 0n),
      outcome: nameOf(outcome),
    }),
  },
  batchStore: {
    asked({ items, atomic }, defaultDomain, mayWrite) {
      const domains = createDomainList(defaultDomain, mayWrite);
      for (const { domain } of items) domains.add(domain);
      return { domains: domains.names(), items: items.length, atomic };
    },
    done: batchFacts,
  },
  update: {
    asked: ({ memory, updateMask }, defaultDomain) => ({
      domain: named(memory?.domain ?? "", defaultDomain),
      ids: idsFrom([memory?.id ?? ""]),
      fields: updateMask?.paths.slice(0, MAX_IDS).map(cut) ?? [],
    }),
    done: ({ memory }) => ({ version: Number(memory?.version ?? 0n), outcome: "updated" }),
  },
  delete: {
    asked: ({ domain, id }, defaultDomain) => ({ domain: named(domain, defaultDomain), ids: idsFrom([id]) }),
    done: ({ deleted }) => ({ outcome: deleted ? "deleted" : "missing" }),
  },
  deleteMatching: {
    asked: ({ domain, dryRun }, defaultDomain) =>
      dryRun ? undefined : { domain: named(domain, defaultDomain) },
    done: ({ deleted }) => ({ deleted: Number(deleted), outcome: "deleted" }),
  },
  retryFailed: {
    asked: ({ domain }, defaultDomain) => ({ domain: named(domain, defaultDomain) }),
    done: ({ retried }) => ({ retried: Number(retried), outcome: "retried" }),
  },
  import: "streams",
  get: "reads",
  list: "reads",
  search: "reads",
  streamSearch: "reads",
  export: "reads",
};

const domainRules: ServiceRules<typeof DomainService> = {
  createDomain: {
    asked: ({ name }) => ({ domain: cut(name) }),
    done: ({ created }) => ({ outcome: created ? "created" : "unchanged" }),
  },
  updateDomain: {
    asked: ({ domain, updateMask }, defaultDomain) => ({
      domain: named(domain?.name ?? "", defaultDomain),
      fields: updateMask?.paths.slice(0, MAX_IDS).map(cut) ?? [],
    }),
    done: () => ({ outcome: "updated" }),
  },
  deleteDomain: {
    asked: ({ name }) => ({ domain: cut(name) }),
    done: ({ deletedMemories }) => ({ deleted: Number(deletedMemories), outcome: "deleted" }),
  },
  getDomain: "reads",
  listDomains: "reads",
};

const rules = new Map<string, AuditRule<never, never> | "reads" | "streams">(
  [[MemoryService, memoryRules] as const, [DomainService, domainRules] as const].flatMap(
    ([service, rulesOf]) =>
      Object.entries(rulesOf).map(([name, rule]) => [`${service.typeName}/${name}`, rule] as const),
  ),
);

/** What to write down of a method. `reads`: nothing. `streams`: what `importFacts` says of its messages. */
export function auditRuleOf(method: DescMethod): AuditRule<unknown, unknown> | "reads" | "streams" {
  const rule = rules.get(`${method.parent.typeName}/${method.localName}`);
  return (rule as AuditRule<unknown, unknown> | undefined) ?? "reads";
}

/**
 * Collects domains by the names that they are meant by, each once: those that the caller may write to, and some of the
 * others, so that names which are refused cannot keep one that is changed out of the line.
 */
export function createDomainList(defaultDomain: string, mayWrite: MayWrite) {
  const open = new Set<string>();
  const refused = new Set<string>();
  return {
    add(domain: string): void {
      const name = named(domain, defaultDomain);
      if (!mayWrite(name)) {
        if (refused.size < MAX_REFUSED_DOMAINS) refused.add(name);
      } else if (open.size < MAX_DOMAINS) open.add(name);
    },
    names: (): string[] => [...open, ...refused],
  };
}

/** What is written down of an import's outcomes. */
type ImportOutcome = "created" | "replaced" | "unchanged" | "kept" | "rejected";

/** How often which outcome, until now or in the end. */
export function importFacts(report: Readonly<Record<ImportOutcome, number | bigint>>): AuditFacts {
  const { created, replaced, unchanged, kept, rejected } = report;
  const counts = { created, replaced, unchanged, kept, rejected };
  const numbers = Object.entries(counts).map(([name, count]) => [name, Number(count)]);
  return { outcomes: Object.fromEntries(numbers) };
}

/** Ids of what was changed, and how often which outcome. */
function batchFacts({ results }: BatchStoreResponse): AuditFacts {
  const outcomes: Record<string, number> = {};
  const changed: string[] = [];
  for (const { result } of results) {
    const outcome = result.case === "success" ? nameOf(result.value.outcome) : "failed";
    outcomes[outcome] = (outcomes[outcome] ?? 0) + 1;
    if (outcome !== "created" && outcome !== "replaced") continue;
    if (result.case === "success") changed.push(result.value.memory?.id ?? "");
  }
  return { ids: idsFrom(changed), outcomes, outcome: "done" };
}

function idsFrom(ids: readonly string[]): string[] {
  return ids
    .filter((id) => id !== "")
    .slice(0, MAX_IDS)
    .map(cut);
}

function named(domain: string, defaultDomain: string): string {
  return cut(domain) || defaultDomain;
}

function cut(text: string): string {
  return startOf(text, MAX_NAME);
}

function nameOf(outcome: StoreOutcome): string {
  return StoreOutcome[outcome]?.toLowerCase() ?? String(outcome);
}
