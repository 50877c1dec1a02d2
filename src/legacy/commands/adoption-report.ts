import { formatCount, formatMemoryCount } from "../../cli/output/format-count.ts";
import { DOMAIN_NAME } from "../../memory/model/limits.ts";
import type { Database } from "../../storage/database/database.ts";
import type { AdoptionChoices, AdoptionPlan, PlannedTable } from "../adoption/adoption-plan.ts";
import { findLegacyTables, type LegacyTable } from "../adoption/legacy-tables.ts";
import type { AdoptCall } from "./adopt-options.ts";

/** Shows the plan and the result of an adoption. */
export interface Reporter {
  /** Whether the plan is to be carried out. */
  readonly proceeds: boolean;
  /** Shows a plan that is not carried out. Returns the exit code. */
  showPlan(): number;
  /** Shows the plan and its result. Returns the exit code. */
  showResult(results: readonly { readonly domain: string }[], sentences: readonly string[]): number;
}

/** Creates a reporter that prints text or JSON. */
export function createReporter(
  call: AdoptCall,
  { place, plan }: { readonly place: string; readonly plan: AdoptionPlan },
): Reporter {
  const isPossible = plan.problems.length === 0;
  const hasTables = plan.tables.length > 0;
  const facts = {
    from: place,
    tables: plan.tables.map(({ old, domain }) => ({ table: old.table, domain, ...old.counts })),
    skipped: plan.skipped.map(({ table }) => table),
    problems: plan.problems,
  };
  const lines = formatPlan(place, plan);
  const write = (value: unknown, text: readonly string[]) =>
    process.stdout.write(call.json ? `${JSON.stringify(value, undefined, 2)}\n` : `${text.join("\n")}\n`);
  return {
    proceeds: call.yes === true && isPossible && hasTables,
    showPlan() {
      const hint = "nothing has been changed yet; add --yes to carry out the plan";
      const showsHint = isPossible && hasTables && !call.yes;
      write({ ...facts, done: false }, showsHint ? [...lines, hint] : lines);
      return isPossible ? 0 : 1;
    },
    showResult(results, sentences) {
      write({ ...facts, done: true, results }, [...lines, "done:", ...sentences.map((line) => `  ${line}`)]);
      return 0;
    },
  };
}

function formatPlan(place: string, { tables, skipped, problems }: AdoptionPlan): string[] {
  return [
    tables.length === 0
      ? `no tables of the old server in ${place}`
      : `${tables.length} tables of the old server in ${place}:`,
    ...tables.map((table) => `  ${formatPlannedTable(table)}`),
    ...skipped.map(({ table }) => `  ${JSON.stringify(table)} is skipped`),
    ...problems.map((problem) => `problem: ${problem}`),
  ];
}

function formatPlannedTable({ old, domain }: PlannedTable): string {
  const { memories, withoutEmbedding, zeroEmbeddings, oddIds, oddMetadata } = old.counts;
  const outcome = DOMAIN_NAME.test(domain) ? `becomes the domain ${domain}` : "needs a name";
  const notes = [
    formatNote(withoutEmbedding, "without an embedding"),
    formatNote(zeroEmbeddings, "with a zero embedding"),
    formatNote(oddIds, "with an id that is not valid in requests"),
    formatNote(oddMetadata, "with metadata that moves to old_ keys"),
  ];
  return `${JSON.stringify(old.table)} ${outcome}: ${formatMemoryCount(memories)}${notes.join("")}`;
}

/** Formats a count as a further part of a sentence; empty for 0. */
export function formatNote(count: number, text: string): string {
  return count === 0 ? "" : `, ${formatCount(count)} ${text}`;
}

/** Counts the memories in the tables of a plan. */
export function countMemories({ tables }: AdoptionPlan): number {
  return tables.reduce((sum, { old }) => sum + old.counts.memories, 0);
}

/** Returns the user's choices for the plan. */
export function choicesOf({ map, skip }: AdoptCall): AdoptionChoices {
  return { map, skip: new Set(skip ?? []) };
}

/** Reads the tables of the old server without a statement timeout. @throws StartupError */
export async function readTables(database: Database): Promise<LegacyTable[]> {
  return await database.session(async (session) => {
    await session.execute("set statement_timeout = 0");
    return await findLegacyTables(session);
  });
}
