import { create, type MessageInitShape } from "@bufbuild/protobuf";
import type { MemoryClient } from "memory-service-client";
import {
  type EmbeddingVersion,
  EmbeddingVersionSchema,
  type MemoryRecord,
} from "memory-service-client/memoryservice/v1/memory_pb.js";
import {
  IfExists,
  type ImportRequestSchema,
  type ImportResponse,
  ImportRequest_Options_OnError as OnError,
} from "memory-service-client/memoryservice/v1/memory_service_pb.js";
import { formatCount, formatMemoryCount } from "../output/format-count.ts";
import type { Progress } from "../output/progress.ts";
import { parseExportLine } from "./export-line.ts";
import type { Line } from "./read-lines.ts";

export interface ImportOptions {
  readonly server?: string;
  readonly domain?: string;
  readonly ifExists?: "fail" | "replace" | "keep";
  readonly onError?: "stop" | "continue";
  readonly fromLine?: string;
}

/**
 * Bounds of one Import call. The server names at most 1,000 rejections, and the outcome of a call is known only at its
 * end.
 */
const CALL = { records: 1_000, bytes: 8 * 1024 * 1024 } as const;

const COUNTS = ["created", "replaced", "unchanged", "kept", "duplicates", "expired", "rejected"] as const;
type Count = (typeof COUNTS)[number];

/** Imports the lines of an export in batches and counts the outcomes. */
export class ImportRun {
  readonly #memories: MemoryClient["raw"]["memories"];
  readonly #options: ImportOptions;
  readonly #fromLine: number;
  readonly #size: number | undefined;
  readonly #progress: Progress;
  readonly #signal: AbortSignal;

  readonly #sums = new Map<Count, number>(COUNTS.map((name) => [name, 0]));
  #batch: { readonly line: number; readonly record: MemoryRecord }[] = [];
  #batchBytes = 0;
  #embeddingVersion: EmbeddingVersion | undefined;
  /** Every line up to this one is imported or reported. */
  #doneLine = 0;
  /** Number of records since the last header; undefined without a header, or if some records were skipped. */
  #sinceHeader: number | undefined;
  #stopped = false;

  constructor(
    memories: MemoryClient["raw"]["memories"],
    options: ImportOptions,
    context: {
      readonly fromLine: number;
      /** Size of the file in bytes, if it is known. */
      readonly size: number | undefined;
      readonly progress: Progress;
      readonly signal: AbortSignal;
    },
  ) {
    this.#memories = memories;
    this.#options = options;
    this.#fromLine = context.fromLine;
    this.#size = context.size;
    this.#progress = context.progress;
    this.#signal = context.signal;
  }

  /** Whether a line was rejected and `--on-error` is `stop`. */
  get stopped(): boolean {
    return this.#stopped;
  }

  /** The line from which an interrupted import can resume. */
  get nextLine(): number {
    return Math.max(this.#doneLine + 1, this.#fromLine);
  }

  get lacksSummary(): boolean {
    return this.#sinceHeader !== undefined && !this.#stopped;
  }

  get total(): number {
    return [...this.#sums.values()].reduce((sum, count) => sum + count, 0);
  }

  get hasRejections(): boolean {
    return (this.#sums.get("rejected") ?? 0) > 0;
  }

  /** Returns the outcomes that occurred, with their counts. */
  counts(): [Count, number][] {
    return [...this.#sums].filter(([, count]) => count > 0);
  }

  /** Reads a line and sends the batch if it is full. */
  async add(line: Line): Promise<void> {
    const entry = parseExportLine(line.text);
    switch (entry.kind) {
      case "blank":
        return;
      case "header":
        await this.flush();
        this.#embeddingVersion =
          entry.embeddingVersion && create(EmbeddingVersionSchema, entry.embeddingVersion);
        this.#sinceHeader = line.number >= this.#fromLine ? 0 : undefined;
        return;
      case "summary":
        this.#checkSummary(line.number, entry.records);
        return;
      case "record":
      case "invalid":
        if (this.#sinceHeader !== undefined) this.#sinceHeader++;
        if (line.number < this.#fromLine) return;
    }
    if (entry.kind === "invalid") {
      await this.flush();
      if (this.#stopped) return;
      this.#doneLine = line.number;
      this.#count("rejected", 1);
      this.#reject(line.number, entry.problem);
      return;
    }
    this.#batch.push({ line: line.number, record: entry.record });
    this.#batchBytes += line.text?.length ?? 0;
    if (this.#batch.length >= CALL.records || this.#batchBytes >= CALL.bytes) await this.flush();
    const done = this.#size === undefined ? undefined : line.end;
    this.#progress.show(formatMemoryCount(this.total), done, this.#size);
  }

  /** Sends the collected records. */
  async flush(): Promise<void> {
    if (this.#batch.length === 0 || this.#stopped) return;
    this.#countResponse(await this.#memories.import(this.#messages(), { signal: this.#signal }));
    this.#doneLine = this.#batch.at(-1)?.line ?? this.#doneLine;
    this.#batch = [];
    this.#batchBytes = 0;
  }

  async *#messages(): AsyncGenerator<MessageInitShape<typeof ImportRequestSchema>> {
    const { domain = "", ifExists = "fail", onError } = this.#options;
    const batch = this.#batch;
    yield {
      item: {
        case: "options",
        value: {
          domain,
          ifExists: { fail: IfExists.FAIL, replace: IfExists.REPLACE, keep: IfExists.KEEP }[ifExists],
          onError: onError === "continue" ? OnError.CONTINUE : OnError.STOP,
          ...(this.#embeddingVersion === undefined ? {} : { embeddingVersion: this.#embeddingVersion }),
        },
      },
    };
    for (const { record } of batch) yield { item: { case: "record", value: record } };
  }

  #countResponse(response: ImportResponse): void {
    for (const name of COUNTS) this.#count(name, response[name]);
    for (const { index, id, error } of response.rejections) {
      const line = this.#batch[Number(index)]?.line ?? 0;
      this.#reject(line, `${id === "" ? "" : `memory "${id}": `}${error?.message ?? "rejected"}`);
    }
  }

  #checkSummary(line: number, records: number): void {
    if (this.#sinceHeader !== undefined && this.#sinceHeader !== records) {
      this.#progress.clear();
      console.error(
        `memory-service: the summary in line ${line} counts ${formatCount(records)} records, but the file has ${formatCount(this.#sinceHeader)}; some lines are missing`,
      );
    }
    this.#sinceHeader = undefined;
  }

  #count(name: Count, count: bigint | number): void {
    this.#sums.set(name, (this.#sums.get(name) ?? 0) + Number(count));
  }

  #reject(line: number, problem: string): void {
    this.#progress.clear();
    console.error(`line ${line}: ${problem}`);
    this.#stopped ||= this.#options.onError !== "continue";
  }
}
