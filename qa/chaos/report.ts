import type { ChaosResult } from "./run.ts";

/** How many violations of each kind are listed. */
const NAMED = 5;

/** Every kind of violation by its name. */
export function wrongsOf({
  findings,
  unfindable,
  load,
  crashes,
}: ChaosResult): Readonly<Record<string, readonly string[]>> {
  return {
    missing: findings.missing,
    duplicated: findings.duplicated,
    "wrong content": findings.wrongContent,
    undeleted: findings.undeleted,
    "found without a store": findings.foreign,
    "not ready": findings.notReady,
    "wrong embeddings": findings.wrongEmbeddings,
    "not found by full-text search": unfindable,
    "wrong reads": load.wrongReads,
    "unexpected errors": load.unexpected,
    "crashes of the server": crashes,
  };
}

/** Returns true if there is no violation. */
export function isSound(result: ChaosResult): boolean {
  return Object.values(wrongsOf(result)).every((wrong) => wrong.length === 0);
}

/** Returns the counts, one on each line, and examples of the violations. */
export function formatResult(result: ChaosResult): string {
  const { load, faults } = result;
  const kinds = Object.entries(faults).map(([kind, met]) => `${kind} ${met}`);
  const rows: [string, number | string][] = [
    ["stored", load.stored],
    ["updated", load.updated],
    ["deleted", load.deleted],
    ["read", load.reads],
    ["kills of the server", result.kills],
    ["kills of starting ones", result.starts],
    ["stops of PostgreSQL", result.stops],
    ["faults of the embedder", kinds.join(", ")],
    ["calls retried", load.retries],
    ["unknown outcomes", load.unknown],
    ["skipped after them", load.skipped],
    ["failed and retried", result.retriedMemories],
    ["present at the end", result.found],
    ...Object.entries(wrongsOf(result)).map(([name, wrong]): [string, number] => [name, wrong.length]),
  ];
  const width = Math.max(...rows.map(([name]) => name.length));
  return [
    `${result.engine}: ${isSound(result) ? "sound" : "NOT SOUND"} after ${result.seconds} s`,
    ...rows.map(([name, value]) => `  ${name.padEnd(width)}  ${value}`),
    ...Object.entries(wrongsOf(result)).flatMap(([name, wrong]) =>
      wrong.slice(0, NAMED).map((one) => `  ${name}: ${one}`),
    ),
  ].join("\n");
}
