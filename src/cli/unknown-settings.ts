import { SETTINGS } from "../app/settings.ts";

/** A variable that looks like a setting of ours and is none. */
export interface StrayVariable {
  readonly name: string;
  /** The setting that was meant, most likely. */
  readonly meant: string | undefined;
}

/** More mistakes in a name than these, and it is another word. */
const MAX_DISTANCE = 3;

/** The variables beginning with MEMORY_ that no setting has: nobody would notice that they do nothing. */
export function strayVariables(environment: Readonly<Record<string, string | undefined>>): StrayVariable[] {
  return Object.keys(environment)
    .filter((name) => name.startsWith("MEMORY_") && !(name in SETTINGS) && environment[name])
    .map((name) => ({ name, meant: nearest(name) }));
}

/** One sentence. */
export function describeStray({ name, meant }: StrayVariable): string {
  return `${name} is set and is no setting${meant === undefined ? "" : `, ${meant} may be meant`}`;
}

function nearest(name: string): string | undefined {
  const [best] = Object.keys(SETTINGS)
    .map((setting) => ({ setting, distance: distanceBetween(name, setting) }))
    .sort((a, b) => a.distance - b.distance);
  return best !== undefined && best.distance <= MAX_DISTANCE ? best.setting : undefined;
}

/** Letters to change, add or remove (Levenshtein). */
function distanceBetween(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (const [i, letter] of [...a].entries()) {
    const next = [i + 1];
    for (const [j, other] of [...b].entries()) {
      const changed = (row[j] ?? 0) + (letter === other ? 0 : 1);
      next.push(Math.min(changed, (row[j + 1] ?? 0) + 1, (next[j] ?? 0) + 1));
    }
    row = next;
  }
  return row.at(-1) ?? 0;
}
