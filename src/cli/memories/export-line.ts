import { fromJson, type JsonValue, toBinary } from "@bufbuild/protobuf";
import {
  type EmbeddingVersion,
  type MemoryRecord,
  MemoryRecordSchema,
} from "memory-service-client/memoryservice/v1/memory_pb.js";
import { ExportResponseSchema } from "memory-service-client/memoryservice/v1/memory_service_pb.js";
import { LIMITS } from "../../memory/model/limits.ts";
import { messageOf } from "../client/parse-options.ts";
import { MAX_LINE_BYTES } from "./read-lines.ts";

/** What a line of an export says. */
export type ExportLine =
  | { readonly kind: "blank" }
  | { readonly kind: "header"; readonly embeddingVersion: EmbeddingVersion | undefined }
  | { readonly kind: "record"; readonly record: MemoryRecord }
  | { readonly kind: "summary"; readonly records: number }
  | { readonly kind: "bad"; readonly problem: string };

/** Lines shorter than this surely hold no record too large for a message. */
const SURELY_SMALL = 1024 * 1024;

/** What a message has beside its record. */
const ENVELOPE_BYTES = 64;

/** Reads a line; undefined is one that could not be read. */
export function parseExportLine(text: string | undefined): ExportLine {
  if (text === undefined) return bad(`is not UTF-8, or longer than ${MAX_LINE_BYTES} bytes`);
  if (text.trim() === "") return { kind: "blank" };
  let value: JsonValue;
  try {
    value = JSON.parse(text) as JsonValue;
  } catch (error) {
    return bad(`is not JSON: ${messageOf(error)}`);
  }
  try {
    // Messages would carry U+FFFD in its place.
    if (/\\u[dD][89a-fA-F]/.test(text)) {
      const path = malformedPath(value);
      if (path !== undefined) return bad(`${path} must be well-formed Unicode, has half of a surrogate pair`);
    }
    const { item } = fromJson(ExportResponseSchema, value);
    switch (item.case) {
      case "header":
        return { kind: "header", embeddingVersion: item.value.embeddingVersion };
      case "summary":
        return { kind: "summary", records: Number(item.value.records) };
      case "record":
        if (text.length > SURELY_SMALL) {
          const bytes = toBinary(MemoryRecordSchema, item.value).length + ENVELOPE_BYTES;
          if (bytes > LIMITS.messageBytes) {
            return bad(`has ${bytes} bytes as a message, of which ${LIMITS.messageBytes} are allowed`);
          }
        }
        return { kind: "record", record: item.value };
      default:
        return bad("must have header, record or summary");
    }
  } catch (error) {
    if (error instanceof RangeError) return bad("is nested too deeply");
    return bad(`is no line of an export: ${messageOf(error)}`);
  }
}

function bad(problem: string): ExportLine {
  return { kind: "bad", problem };
}

/** Where half a surrogate pair stands. */
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
