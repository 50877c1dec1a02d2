import { create } from "@bufbuild/protobuf";
import { type Duration, DurationSchema, type Timestamp, TimestampSchema } from "@bufbuild/protobuf/wkt";

/** Microseconds since 1970, or a span of microseconds. */
type Microseconds = bigint;

const MICROSECONDS = 1_000_000n;

/** Seconds of the earliest and the latest Timestamp, in the years 1 and 9999. */
const MIN_SECONDS = -62_135_596_800n;
const MAX_SECONDS = 253_402_300_799n;

/** Returns whether a Timestamp is in its valid range; its fields can hold more. */
export function isTimestamp({ seconds, nanos }: Timestamp): boolean {
  return seconds >= MIN_SECONDS && seconds <= MAX_SECONDS && nanos >= 0 && nanos <= 999_999_999;
}

export function timestampFromMicroseconds(time: Microseconds): Timestamp {
  // Times before 1970 have negative seconds, and nanos that count forward from them.
  const rest = ((time % MICROSECONDS) + MICROSECONDS) % MICROSECONDS;
  return create(TimestampSchema, {
    seconds: (time - rest) / MICROSECONDS,
    nanos: Number(rest) * 1_000,
  });
}

/** Converts a Timestamp, truncated to microseconds. */
export function microsecondsFromTimestamp(timestamp: Timestamp): Microseconds {
  return timestamp.seconds * MICROSECONDS + BigInt(Math.floor(timestamp.nanos / 1_000));
}

/** Converts a Duration, truncated to microseconds. */
export function microsecondsFromDuration(duration: Duration): Microseconds {
  return duration.seconds * MICROSECONDS + BigInt(Math.trunc(duration.nanos / 1_000));
}

/** Converts milliseconds, rounded to microseconds. */
export function durationFromMilliseconds(milliseconds: number): Duration {
  return durationFromMicroseconds(BigInt(Math.round(milliseconds * 1_000)));
}

/** Converts a duration, which must not be negative. */
export function durationFromMicroseconds(microseconds: Microseconds): Duration {
  return create(DurationSchema, {
    seconds: microseconds / MICROSECONDS,
    nanos: Number(microseconds % MICROSECONDS) * 1_000,
  });
}
