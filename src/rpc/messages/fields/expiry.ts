import type { Duration, Timestamp } from "@bufbuild/protobuf/wkt";
import type { FieldViolation } from "../../../memory/model/errors.ts";
import { LIMITS } from "../../../memory/model/limits.ts";
import type { Expiry, Microseconds } from "../../../memory/model/memory.ts";
import { microsecondsFromDuration, microsecondsFromTimestamp } from "./time.ts";

/** When a memory ends, as StoreRequest says it. */
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

/** `path` is put before the name of the field. */
export function expiryViolations(expiry: ExpiryMessage, path = ""): FieldViolation[] {
  if (expiry.case === "expireTime") {
    const time = microsecondsFromTimestamp(expiry.value);
    const now = BigInt(Date.now()) * 1_000n;
    return hasProperNanos(expiry.value) && time > now && time <= now + MAX_TTL
      ? []
      : [{ field: `${path}expire_time`, description: "must be in the future, at most 100 years ahead" }];
  }
  if (expiry.case === "ttl") {
    const ttl = microsecondsFromDuration(expiry.value);
    return hasProperNanos(expiry.value) && ttl > 0n && ttl <= MAX_TTL
      ? []
      : [{ field: `${path}ttl`, description: "must be from 1 microsecond to 100 years" }];
  }
  return [];
}

/** Of a time, or of a span that is not negative. */
export function hasProperNanos({ nanos }: { readonly nanos: number }): boolean {
  return nanos >= 0 && nanos <= 999_999_999;
}
