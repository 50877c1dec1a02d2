import type { FieldViolation } from "../../../memory/model/errors.ts";
import { LIMITS } from "../../../memory/model/limits.ts";
import { all, charactersAtMost, storableText } from "../validate.ts";

/**
 * Maximum number of violations reported for one filter. A large filter could otherwise repeat the same mistake
 * endlessly.
 */
const MAX_VIOLATIONS = 100;

/** Describes what is wrong with a string in a filter, if anything. */
export const stringProblem = all(storableText, charactersAtMost(LIMITS.filterStringLength));

/** Collects the violations of one filter and counts its conditions. */
export interface FilterReader {
  readonly violations: FieldViolation[];
  /** Adds a violation. Does nothing if `description` is undefined. */
  report(field: string, description: string | undefined): void;
  /** Returns whether a list has 1 to `max` entries, and reports it otherwise. */
  isCount(values: readonly unknown[], max: number, path: string): boolean;
  /** Counts one more condition. Returns whether the filter may have it. */
  countCondition(path: string): boolean;
}

export function createFilterReader(): FilterReader {
  const violations: FieldViolation[] = [];
  let conditions = 0;

  function report(field: string, description: string | undefined): void {
    if (description !== undefined && violations.length < MAX_VIOLATIONS)
      violations.push({ field, description });
  }

  return {
    violations,
    report,
    isCount(values, max, path) {
      const fits = values.length >= 1 && values.length <= max;
      if (!fits) report(path, `must have 1 to ${max} entries, has ${values.length}`);
      return fits;
    },
    countCondition(path) {
      conditions++;
      // Reported once, and the rest is skipped: a message of 4 MiB can hold a million conditions.
      if (conditions === LIMITS.filterConditions + 1) {
        report(path, `must be removed, the filter has more than ${LIMITS.filterConditions} conditions`);
      }
      return conditions <= LIMITS.filterConditions;
    },
  };
}
