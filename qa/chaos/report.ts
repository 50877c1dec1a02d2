import type { ChaosResult } from "./run.ts";

/** Of each kind of wrong, so many are named. */
const NAMED = 5;

/** Everything that must not be there, by its name. */
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
    "stored by nobody": findings.foreign,
    "not ready": findings.notReady,
    "wrong vectors": findings.wrongVectors,
    "not found by words": unfindable,
    "wrong reads": load.wrongReads,
    "unexpected errors": load.unexpected,
    "crashes of the server": crashes,
  };
}

/** True if nothing is off. */
export function isSound(result: ChaosResult): boolean {
  return Object.values(wrongsOf(result)).every((wrong) => wrong.length === 0);
}

/** The counts, a line each, and some of what is off. */
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
    ["calls repeated", load.retries],
    ["unknown outcomes", load.unknown],
    ["left out after them", load.leftOut],
    ["failed and tried again", result.retriedMemories],
    ["there in the end", result.found],
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
