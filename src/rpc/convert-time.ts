import { create } from "@bufbuild/protobuf";
import { type Duration, type Timestamp, TimestampSchema } from "@bufbuild/protobuf/wkt";
import type { Microseconds } from "../memory/memory.ts";

const MICROSECONDS = 1_000_000n;

export function timestampFromMicroseconds(time: Microseconds): Timestamp {
  // Times before 1970 have negative seconds, and nanos that count forward from them.
  const rest = ((time % MICROSECONDS) + MICROSECONDS) % MICROSECONDS;
  return create(TimestampSchema, {
    seconds: (time - rest) / MICROSECONDS,
    nanos: Number(rest) * 1_000,
  });
}

/** What is finer than a microsecond is cut off. */
export function microsecondsFromTimestamp(timestamp: Timestamp): Microseconds {
  return timestamp.seconds * MICROSECONDS + BigInt(Math.floor(timestamp.nanos / 1_000));
}

/** What is finer than a microsecond is cut off. */
export function microsecondsFromDuration(duration: Duration): Microseconds {
  return duration.seconds * MICROSECONDS + BigInt(Math.trunc(duration.nanos / 1_000));
}
