import {
  type BatchStoreResponse,
  StoreOutcome,
} from "memory-service-client/memoryservice/v1/memory_service_pb.js";
import { truncateText } from "../util/truncate-text.ts";

/** The facts of an audit line besides the caller and the time. */
export type AuditFacts = Readonly<Record<string, unknown>>;

/** Whether the caller may write to a domain. */
export type MayWrite = (domain: string) => boolean;

/** Maximum number of ids that one line lists. */
const MAX_IDS = 100;
const MAX_DOMAINS = 1_000;
const MAX_REFUSED_DOMAINS = 20;

/** Maximum length of a logged name. Invalid names are rejected, and still logged. */
const MAX_NAME = 64;

/**
 * Collects distinct domain names: those that the caller may write to, and a few of the others, so that refused names cannot push
 * a changed domain out of the line.
 */
export function createDomainList(defaultDomain: string, mayWrite: MayWrite) {
  const writable = new Set<string>();
  const refused = new Set<string>();
  return {
    add(domain: string): void {
      const name = auditedDomain(domain, defaultDomain);
      if (!mayWrite(name)) {
        if (refused.size < MAX_REFUSED_DOMAINS) refused.add(name);
      } else if (writable.size < MAX_DOMAINS) writable.add(name);
    },
    names: (): string[] => [...writable, ...refused],
  };
}

type ImportOutcome = "created" | "replaced" | "unchanged" | "kept" | "rejected";

/** Returns how often an import had each outcome, so far or in total. */
export function importFacts(report: Readonly<Record<ImportOutcome, number | bigint>>): AuditFacts {
  const { created, replaced, unchanged, kept, rejected } = report;
  const counts = { created, replaced, unchanged, kept, rejected };
  const numbers = Object.entries(counts).map(([name, count]) => [name, Number(count)]);
  return { outcomes: Object.fromEntries(numbers) };
}

/** Returns the ids that a batch changed, and how often it had each outcome. */
export function batchFacts({ results }: BatchStoreResponse): AuditFacts {
  const outcomes: Record<string, number> = {};
  const changed: string[] = [];
  for (const { result } of results) {
    const outcome = result.case === "success" ? outcomeName(result.value.outcome) : "failed";
    outcomes[outcome] = (outcomes[outcome] ?? 0) + 1;
    if (outcome !== "created" && outcome !== "replaced") continue;
    if (result.case === "success") changed.push(result.value.memory?.id ?? "");
  }
  return { ids: auditedIds(changed), outcomes, outcome: "done" };
}

export function auditedIds(ids: readonly string[]): string[] {
  return ids
    .filter((id) => id !== "")
    .slice(0, MAX_IDS)
    .map(auditedName);
}

export function auditedFields(paths: readonly string[] | undefined): string[] {
  return paths?.slice(0, MAX_IDS).map(auditedName) ?? [];
}

export function auditedDomain(domain: string, defaultDomain: string): string {
  return auditedName(domain) || defaultDomain;
}

export function auditedName(text: string): string {
  return truncateText(text, MAX_NAME);
}

export function outcomeName(outcome: StoreOutcome): string {
  return StoreOutcome[outcome]?.toLowerCase() ?? String(outcome);
}
