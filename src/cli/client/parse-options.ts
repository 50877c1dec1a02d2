import { fromJson, type JsonObject, type JsonValue } from "@bufbuild/protobuf";
import { type Filter, FilterSchema } from "memory-service-client/memoryservice/v1/filter_pb.js";
import { messageOf } from "../../util/error-message.ts";
import { UsageError } from "../usage-error.ts";

/** Parses a Filter in protobuf's JSON form. @throws UsageError */
export function filterFrom(text: string): Filter {
  try {
    return fromJson(FilterSchema, jsonFrom("--filter", text));
  } catch (error) {
    if (error instanceof UsageError) throw error;
    throw new UsageError(`--filter must be a Filter in protobuf's JSON form: ${oneLineMessageOf(error)}`);
  }
}

/** Parses the value of an option that must be a JSON object. @throws UsageError */
export function objectFrom(option: string, text: string): JsonObject {
  const value = jsonFrom(option, text);
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new UsageError(`${option} must be a JSON object, got ${text}`);
  }
  return value;
}

function jsonFrom(option: string, text: string): JsonValue {
  try {
    return JSON.parse(text) as JsonValue;
  } catch (error) {
    throw new UsageError(`${option} must be JSON: ${oneLineMessageOf(error)}`);
  }
}

/** Parses the value of an option that must be a whole number. @throws UsageError */
export function wholeNumberFrom(option: string, text: string): number {
  if (!/^\d{1,9}$/.test(text)) throw new UsageError(`${option} must be a whole number, got "${text}"`);
  return Number(text);
}

/** Parses the value of an option that must be a number. @throws UsageError */
export function numberFrom(option: string, text: string): number {
  const value = Number(text);
  if (text.trim() === "" || !Number.isFinite(value))
    throw new UsageError(`${option} must be a number, got "${text}"`);
  return value;
}

const unitMs: Readonly<Record<string, number>> = { s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 };

/** Parses a duration such as `90s` or `7d` into milliseconds. @throws UsageError */
export function durationMsFrom(option: string, text: string): number {
  const [, count, unit = ""] = /^(\d{1,9})([smhd])$/.exec(text) ?? [];
  if (count === undefined)
    throw new UsageError(`${option} must be a duration such as 90s, 30m, 12h or 7d, got "${text}"`);
  return Number(count) * (unitMs[unit] ?? 0);
}

/** Returns the message of an error with line breaks and runs of spaces collapsed. */
export function oneLineMessageOf(error: unknown): string {
  return messageOf(error).replace(/\s+/g, " ");
}
