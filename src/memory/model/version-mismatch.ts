import type { MemoryKey } from "../read/get.ts";
import { ServiceError } from "./errors.ts";

/** The error of a change that was meant for another version of the memory. */
export function versionMismatch(
  { domain, id }: MemoryKey,
  expected: bigint | undefined,
  current: bigint,
): ServiceError {
  return new ServiceError(
    "VERSION_MISMATCH",
    `memory "${id}" in domain "${domain}" is at version ${current}, not ${expected}`,
    { metadata: { domain, id, expected_version: String(expected), current_version: String(current) } },
  );
}
