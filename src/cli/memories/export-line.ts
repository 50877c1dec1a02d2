import { fromJson, type JsonValue, toBinary } from "@bufbuild/protobuf";
import {
  type EmbeddingVersion,
  type MemoryRecord,
  MemoryRecordSchema,
} from "memory-service-client/memoryservice/v1/memory_pb.js";
import { ExportResponseSchema } from "memory-service-client/memoryservice/v1/memory_service_pb.js";
import { LIMITS } from "../../memory/model/limits.ts";
import { oneLineMessageOf } from "../client/parse-options.ts";
import { MAX_LINE_BYTES } from "./read-lines.ts";

/** A parsed line of an export. */
export type ExportLine =
  | { readonly kind: "blank" }
  | { readonly kind: "header"; readonly embeddingVersion: EmbeddingVersion | undefined }
  | { readonly kind: "record"; readonly record: MemoryRecord }
  | { readonly kind: "summary"; readonly records: number }
  | { readonly kind: "invalid"; readonly problem: string };

/** A line shorter than this cannot hold a record that is too large for a message. */
const SMALL_LINE_LENGTH = 1024 * 1024;

/** Bytes that a message has in addition to its record. */
const ENVELOPE_BYTES = 64;

/** Parses a line. `text` is undefined for a line that could not be decoded. */
export function parseExportLine(text: string | undefined): ExportLine {
  if (text === undefined) return invalid(`not UTF-8, or longer than ${MAX_LINE_BYTES} bytes`);
  if (text.trim() === "") return { kind: "blank" };
  let value: JsonValue;
  try {
    value = JSON.parse(text) as JsonValue;
  } catch (error) {
    return invalid(`not JSON: ${oneLineMessageOf(error)}`);
  }
  try {
    // In a message, U+FFFD would replace it.
    if (/\\u[dD][89a-fA-F]/.test(text)) {
      const path = malformedPath(value);
      if (path !== undefined) return invalid(`${path} contains an unpaired surrogate`);
    }
    const { item } = fromJson(ExportResponseSchema, value);
    switch (item.case) {
      case "header":
        return { kind: "header", embeddingVersion: item.value.embeddingVersion };
      case "summary":
        return { kind: "summary", records: Number(item.value.records) };
      case "record":
        if (text.length > SMALL_LINE_LENGTH) {
          const bytes = toBinary(MemoryRecordSchema, item.value).length + ENVELOPE_BYTES;
          if (bytes > LIMITS.messageBytes) {
            return invalid(
              `the record has ${bytes} bytes as a message; at most ${LIMITS.messageBytes} are allowed`,
            );
          }
        }
        return { kind: "record", record: item.value };
      default:
        return invalid("the line must have a header, record or summary");
    }
  } catch (error) {
    if (error instanceof RangeError) return invalid("nested too deeply");
    return invalid(`not a line of an export: ${oneLineMessageOf(error)}`);
  }
}

function invalid(problem: string): ExportLine {
  return { kind: "invalid", problem };
}

/** Returns the path of the first string with an unpaired surrogate. */
function malformedPath(value: JsonValue, path = ""): string | undefined {
  if (typeof value === "string") return value.isWellFormed() ? undefined : path;
  if (typeof value !== "object" || value === null) return undefined;
  for (const [key, inner] of Object.entries(value)) {
    const at = Array.isArray(value)
      ? `${path}[${key}]`
      : `${path === "" ? "" : `${path}.`}${key.toWellFormed()}`;
    if (!key.isWellFormed()) return at;
    const found = malformedPath(inner, at);
    if (found !== undefined) return found;
  }
  return undefined;
}
