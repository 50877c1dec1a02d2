import { create, type JsonObject } from "@bufbuild/protobuf";
import { Code, type MemoryClient, memoryServiceErrorFrom } from "memory-service-client";
import { type MemoryRecord, MemoryRecordSchema } from "memory-service-client/memoryservice/v1/memory_pb.js";
import {
  IfExists,
  ImportRequest_Options_OnError as OnError,
} from "memory-service-client/memoryservice/v1/memory_service_pb.js";
import type { Queryable } from "../../storage/database/database.ts";
import { timestampFromMicroseconds } from "../../util/proto-time.ts";
import { quoteIdentifier } from "../quote-identifier.ts";
import type { PlannedTable } from "./adoption-plan.ts";
import { normalizedMetadata } from "./legacy-tables.ts";

/** Numbers of the memories of a table by outcome. */
export interface CopiedTable {
  readonly domain: string;
  readonly memories: number;
  created: number;
  replaced: number;
  /** Exist already and are equal. */
  unchanged: number;
  /** Exist already with other content and were not changed. */
  kept: number;
  rejected: number;
  /** Memories with numbers in their metadata that a double cannot hold; `old_metadata_text` keeps the original text. */
  inexactNumbers: number;
}

export interface CopyOptions {
  /** What to do if a different memory has the same id in the target. */
  readonly onConflict: "skip" | "replace";
  readonly signal: AbortSignal;
  readonly onProgress?: (copied: number) => void;
  readonly onRejected?: (table: PlannedTable, id: string, reason: string) => void;
}

const PAGE_SIZE = 200;

interface OldRow {
  readonly [column: string]: unknown;
  readonly id: string;
  readonly content: string;
  readonly metadata: string;
  /** Null only if someone edited the row by hand. */
  readonly created_us: bigint | null;
  readonly updated_us: bigint | null;
}

/**
 * Copies the memories of a table into its domain, page by page in the order of their ids. The source is only read. A
 * repeated copy stores nothing twice.
 */
export async function copyTable(
  source: Queryable,
  target: MemoryClient["raw"],
  planned: PlannedTable,
  { onConflict, signal, onProgress, onRejected }: CopyOptions,
): Promise<CopiedTable> {
  const sums = {
    domain: planned.domain,
    memories: 0,
    created: 0,
    replaced: 0,
    unchanged: 0,
    kept: 0,
    rejected: 0,
    inexactNumbers: 0,
  };
  for (let after = ""; ; ) {
    signal.throwIfAborted();
    const rows = await source.query<OldRow>(
      {
        text: `select id, content, (${normalizedMetadata("m")})::text as metadata,
            (extract(epoch from created_at) * 1000000)::bigint as created_us,
            (extract(epoch from updated_at) * 1000000)::bigint as updated_us
          from ${quoteIdentifier(planned.old.table)} m where id > $1 order by id limit ${PAGE_SIZE}`,
      },
      [after],
    );
    const last = rows.at(-1);
    if (last === undefined) {
      if (sums.memories === 0) await ensureDomain(target, planned.domain, signal);
      return sums;
    }
    const records = rows.map((row) => {
      const read = readMetadata(row.metadata);
      if (!read.exact) sums.inexactNumbers++;
      return recordFrom(planned.domain, row, read.metadata);
    });
    const response = await target.memories.import(messages(records), { signal });
    sums.memories += rows.length;
    sums.created += Number(response.created);
    sums.replaced += Number(response.replaced);
    sums.unchanged += Number(response.unchanged);
    sums.kept += Number(response.kept + response.duplicates);
    sums.rejected += Number(response.rejected);
    for (const { id, error } of response.rejections) {
      onRejected?.(planned, id, error?.message ?? "rejected");
    }
    onProgress?.(rows.length);
    after = last.id;
  }

  async function* messages(records: readonly MemoryRecord[]) {
    const ifExists = { skip: IfExists.KEEP, replace: IfExists.REPLACE }[onConflict];
    yield { item: { case: "options" as const, value: { ifExists, onError: OnError.CONTINUE } } };
    for (const value of records) yield { item: { case: "record" as const, value } };
  }
}

/** Creates the domain of an empty table. */
async function ensureDomain(target: MemoryClient["raw"], name: string, signal: AbortSignal): Promise<void> {
  try {
    await target.domains.getDomain({ name }, { signal });
  } catch (error) {
    if (memoryServiceErrorFrom(error).code !== Code.NotFound) throw error;
    await target.domains.createDomain({ name }, { signal });
  }
}

function recordFrom(domain: string, row: OldRow, all: JsonObject): MemoryRecord {
  const { source, importance, tags, ...metadata } = all;
  return create(MemoryRecordSchema, {
    memory: {
      id: row.id,
      domain,
      content: row.content,
      ...(typeof source === "string" ? { source } : {}),
      ...(typeof importance === "number" ? { importance } : {}),
      ...(Array.isArray(tags) ? { tags: tags.map(String) } : {}),
      metadata,
      ...(row.created_us === null ? {} : { createTime: timestampFromMicroseconds(row.created_us) }),
      ...(row.updated_us === null ? {} : { updateTime: timestampFromMicroseconds(row.updated_us) }),
    },
  });
}

/** Parses metadata. If a double cannot hold a number, adds the original text as `old_metadata_text`. */
function readMetadata(text: string): { readonly metadata: JsonObject; readonly exact: boolean } {
  let exact = true;
  const metadata = JSON.parse(text, (_key, value: unknown, context?: { readonly source?: string }) => {
    if (typeof value === "number" && !isExact(value, context?.source ?? "")) exact = false;
    return value;
  }) as JsonObject;
  return exact ? { metadata, exact } : { metadata: { ...metadata, old_metadata_text: text }, exact };
}

/** Whether a double holds the number of the source exactly, judged by its shortest decimal form. */
function isExact(value: number, source: string): boolean {
  return digitsOf(String(value)) === digitsOf(source);
}

/** Normalizes sign, digits and exponent of a decimal number. */
function digitsOf(text: string): string {
  const [mantissa = "", exponent = "0"] = text.toLowerCase().split("e");
  const [whole = "", fraction = ""] = mantissa.replace("-", "").split(".");
  const digits = (whole + fraction).replace(/^0+/, "");
  const trimmed = digits.replace(/0+$/, "");
  if (trimmed === "") return "0";
  const shift = Number(exponent) - fraction.length + (digits.length - trimmed.length);
  return `${mantissa.startsWith("-") ? "-" : ""}${trimmed}e${shift}`;
}
