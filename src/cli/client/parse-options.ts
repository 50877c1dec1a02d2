import { fromJson, type JsonValue } from "@bufbuild/protobuf";
import { type Filter, FilterSchema } from "memory-service-client/memoryservice/v1/filter_pb.js";
import { UsageError } from "../usage-error.ts";

/** A filter in protobuf's JSON form. @throws UsageError */
export function filterFrom(text: string): Filter {
  try {
    return fromJson(FilterSchema, jsonFrom("--filter", text));
  } catch (error) {
    if (error instanceof UsageError) throw error;
    throw new UsageError(`--filter is no Filter of the contract: ${messageOf(error)}`);
  }
}

/** @throws UsageError */
export function jsonFrom(option: string, text: string): JsonValue {
  try {
    return JSON.parse(text) as JsonValue;
  } catch (error) {
    throw new UsageError(`${option} must be JSON: ${messageOf(error)}`);
  }
}

/** A whole number as an option. @throws UsageError */
export function wholeNumber(option: string, text: string): number {
  if (!/^\d{1,9}$/.test(text)) throw new UsageError(`${option} must be a whole number, is "${text}"`);
  return Number(text);
}

/** In one line. */
export function messageOf(error: unknown): string {
  return (error instanceof Error ? error.message : String(error)).replace(/\s+/g, " ");
}
