import type { Duration, Timestamp } from "@bufbuild/protobuf/wkt";
import type { FieldViolation } from "../../../memory/model/errors.ts";
import { LIMITS } from "../../../memory/model/limits.ts";
import type { Expiry, Microseconds } from "../../../memory/model/memory.ts";
import { microsecondsFromDuration, microsecondsFromTimestamp } from "../../../util/proto-time.ts";

/** The expiry of a memory, as in StoreRequest. */
export type ExpiryMessage =
  | { readonly case: "expireTime"; readonly value: Timestamp }
  | { readonly case: "ttl"; readonly value: Duration }
  | { readonly case: undefined; readonly value?: undefined };

const MAX_TTL: Microseconds = LIMITS.ttlSeconds * 1_000_000n;

export function expiryFrom(expiry: ExpiryMessage): Expiry {
  switch (expiry.case) {
    case "expireTime":
      return { kind: "at", time: microsecondsFromTimestamp(expiry.value) };
    case "ttl":
      return { kind: "after", ttl: microsecondsFromDuration(expiry.value) };
    case undefined:
      return { kind: "never" };
  }
}

/** Returns the violations of an expiry. `path` prefixes the name of its field. */
export function expiryViolations(expiry: ExpiryMessage, path = ""): FieldViolation[] {
  if (expiry.case === "expireTime") {
    const time = microsecondsFromTimestamp(expiry.value);
    const now = BigInt(Date.now()) * 1_000n;
    return hasValidNanos(expiry.value) && time > now && time <= now + MAX_TTL
      ? []
      : [{ field: `${path}expire_time`, description: "must be in the future, at most 100 years ahead" }];
  }
  if (expiry.case === "ttl") {
    const ttl = microsecondsFromDuration(expiry.value);
    return hasValidNanos(expiry.value) && ttl > 0n && ttl <= MAX_TTL
      ? []
      : [{ field: `${path}ttl`, description: "must be from 1 microsecond to 100 years" }];
  }
  return [];
}

/** Returns whether the nanoseconds are valid for a time or a non-negative duration. */
export function hasValidNanos({ nanos }: { readonly nanos: number }): boolean {
  return nanos >= 0 && nanos <= 999_999_999;
}
