import type { Timestamp } from "@bufbuild/protobuf/wkt";
import type {
  NumberRange as NumberRangeMessage,
  TimeRange as TimeRangeMessage,
} from "memory-service-client/memoryservice/v1/filter_pb.js";
import type { NumberRange, TimeRange } from "../../../memory/model/filter.ts";
import type { Microseconds } from "../../../memory/model/memory.ts";
import { isTimestamp, microsecondsFromTimestamp } from "../../../util/proto-time.ts";
import type { FilterReader } from "./filter-reader.ts";

/** Converts a range of numbers. */
export function readNumberRange(
  reader: FilterReader,
  { gte, gt, lte, lt }: NumberRangeMessage,
  path: string,
): NumberRange {
  for (const [name, bound] of Object.entries({ gte, gt, lte, lt })) {
    if (Number.isNaN(bound)) reader.report(`${path}.${name}`, "must not be NaN");
  }
  const lower = gte ?? gt;
  const upper = lte ?? lt;
  if (lower === undefined && upper === undefined) {
    reader.report(path, "must have a bound: gte, gt, lte or lt");
  } else if (gte !== undefined && gt !== undefined) {
    reader.report(path, "must not have both gte and gt");
  } else if (lte !== undefined && lt !== undefined) {
    reader.report(path, "must not have both lte and lt");
  } else if (lower !== undefined && upper !== undefined && lower > upper) {
    reader.report(path, `must not start above its end, got ${lower} to ${upper}`);
  }
  return { gte, gt, lte, lt };
}

/** Converts a range of times. */
export function readTimeRange(
  reader: FilterReader,
  { startTime, endTime }: TimeRangeMessage,
  path: string,
): TimeRange {
  const start = readTime(reader, startTime, `${path}.start_time`);
  const end = readTime(reader, endTime, `${path}.end_time`);
  if (startTime === undefined && endTime === undefined) {
    reader.report(path, "must have a bound: start_time or end_time");
  } else if (start !== undefined && end !== undefined && start >= end) {
    reader.report(path, "must have its start_time before its end_time, by at least a microsecond");
  }
  return { start, end };
}

function readTime(reader: FilterReader, time: Timestamp | undefined, path: string): Microseconds | undefined {
  if (time === undefined) return undefined;
  if (isTimestamp(time)) {
    return microsecondsFromTimestamp(time);
  }
  reader.report(path, "must be a time in the years 1 to 9999");
  return undefined;
}
