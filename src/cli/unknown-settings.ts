import { SETTINGS } from "../app/settings.ts";

/** An environment variable that starts with `MEMORY_` and is not a setting, for example because it is misspelled. */
export interface UnknownSetting {
  readonly name: string;
  /** The setting with the most similar name, if there is one. */
  readonly suggestion: string | undefined;
}

/** Maximum edit distance between an unknown name and a suggested setting. */
const MAX_DISTANCE = 3;

/**
 * Finds the variables that start with `MEMORY_` and are not settings, so that a misspelled setting does not go
 * unnoticed.
 */
export function findUnknownSettings(
  environment: Readonly<Record<string, string | undefined>>,
): UnknownSetting[] {
  return Object.keys(environment)
    .filter((name) => name.startsWith("MEMORY_") && !(name in SETTINGS) && environment[name])
    .map((name) => ({ name, suggestion: nearestSetting(name) }));
}

/** Describes an unknown setting in one sentence, for the log. */
export function describeUnknownSetting({ name, suggestion }: UnknownSetting): string {
  return `${name} is not a known setting${suggestion === undefined ? "" : `; did you mean ${suggestion}?`}`;
}

function nearestSetting(name: string): string | undefined {
  const [best] = Object.keys(SETTINGS)
    .map((setting) => ({ setting, distance: editDistance(name, setting) }))
    .sort((a, b) => a.distance - b.distance);
  return best !== undefined && best.distance <= MAX_DISTANCE ? best.setting : undefined;
}

/** Computes the Levenshtein distance: the number of characters to change, insert or delete. */
function editDistance(a: string, b: string): number {
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
