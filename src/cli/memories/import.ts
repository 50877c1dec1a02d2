import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
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
import { StartupError } from "../../memory/model/errors.ts";
import { abortOnSignal } from "../abort-on-signal.ts";
import { messageOf, wholeNumber } from "../client/parse-options.ts";
import { serverUrl, withClient } from "../client/server-client.ts";
import { createProgress, formatCount, formatMemoryCount } from "../output/progress.ts";
import { parseExportLine } from "./export-line.ts";
import { type Line, readLines } from "./read-lines.ts";

export interface ImportOptions {
  readonly server?: string;
  readonly domain?: string;
  readonly ifExists?: "fail" | "replace" | "keep";
  readonly onError?: "stop" | "continue";
  readonly fromLine?: string;
}

/** Records of one call: the server names 1,000 rejections at most, and what a call has done is known at its end. */
const CALL = { records: 1_000, bytes: 8 * 1024 * 1024 } as const;

const counts = ["created", "replaced", "unchanged", "kept", "duplicates", "expired", "rejected"] as const;

/** Reads what `exportDomain` has written; returns the exit code. `path` "-": from standard input. */
export async function importFile(path: string, options: ImportOptions): Promise<number> {
  const fromLine = wholeNumber("--from-line", options.fromLine ?? "1");
  const goesOn = options.onError === "continue";
  const size = path === "-" ? undefined : (await stat(path).catch(unreadable)).size;
  const bytes: AsyncIterable<Uint8Array> = path === "-" ? process.stdin : createReadStream(path);

  return await withClient(await serverUrl(options.server), async ({ memories }) => {
    const interrupted = abortOnSignal();
    const progress = createProgress();
    const started = performance.now();
    const sums = new Map<string, number>(counts.map((name) => [name, 0]));
    const add = (name: string, count: bigint | number) =>
      sums.set(name, (sums.get(name) ?? 0) + Number(count));
    const total = () => [...sums.values()].reduce((sum, count) => sum + count, 0);
    let batch: { readonly line: number; readonly record: MemoryRecord }[] = [];
    let batchBytes = 0;
    let embeddingVersion: EmbeddingVersion | undefined;
    /** All lines up to this one are dealt with. */
    let doneLine = 0;
    /** Records since the last header; undefined where there was none, or some were skipped. */
    let sinceHeader: number | undefined;
    let stopped = false;

    const complain = (line: number, what: string) => {
      progress.end();
      console.error(`line ${line}: ${what}`);
      stopped ||= !goesOn;
    };
    const count = (response: ImportResponse) => {
      for (const name of counts) add(name, response[name]);
      for (const { index, id, error } of response.rejections) {
        const line = batch[Number(index)]?.line ?? 0;
        complain(line, `${id === "" ? "" : `memory "${id}": `}${error?.message ?? "rejected"}`);
      }
    };
    const flush = async () => {
      if (batch.length === 0 || stopped) return;
      const sent = batch;
      async function* messages(): AsyncGenerator<MessageInitShape<typeof ImportRequestSchema>> {
        yield {
          item: {
            case: "options",
            value: {
              domain: options.domain ?? "",
              ifExists: { fail: IfExists.FAIL, replace: IfExists.REPLACE, keep: IfExists.KEEP }[
                options.ifExists ?? "fail"
              ],
              onError: goesOn ? OnError.CONTINUE : OnError.STOP,
              ...(embeddingVersion === undefined ? {} : { embeddingVersion }),
            },
          },
        };
        for (const { record } of sent) yield { item: { case: "record", value: record } };
      }
      count(await memories.import(messages(), { signal: interrupted.signal }));
      doneLine = batch.at(-1)?.line ?? doneLine;
      batch = [];
      batchBytes = 0;
    };
    const read = async (line: Line) => {
      const entry = parseExportLine(line.text);
      switch (entry.kind) {
        case "blank":
          return;
        case "header":
          await flush();
          embeddingVersion = entry.embeddingVersion && create(EmbeddingVersionSchema, entry.embeddingVersion);
          sinceHeader = line.number >= fromLine ? 0 : undefined;
          return;
        case "summary":
          if (sinceHeader !== undefined && sinceHeader !== entry.records) {
            progress.end();
            console.error(
              `memory-service: line ${line.number} says ${formatCount(entry.records)} records, there are ${formatCount(sinceHeader)}: some lines are missing`,
            );
          }
          sinceHeader = undefined;
          return;
        case "record":
        case "bad":
          if (sinceHeader !== undefined) sinceHeader++;
          if (line.number < fromLine) return;
      }
      if (entry.kind === "bad") {
        await flush();
        if (stopped) return;
        doneLine = line.number;
        add("rejected", 1);
        complain(line.number, entry.problem);
        return;
      }
      batch.push({ line: line.number, record: entry.record });
      batchBytes += line.text?.length ?? 0;
      if (batch.length >= CALL.records || batchBytes >= CALL.bytes) await flush();
      progress.show(formatMemoryCount(total()), size === undefined ? undefined : line.end, size);
    };

    try {
      for await (const line of readLines(bytes)) {
        await read(line);
        if (stopped) break;
        interrupted.signal.throwIfAborted();
      }
      await flush();
    } catch (error) {
      progress.end();
      console.error(
        `memory-service: the import is not complete; to go on, repeat it, with --from-line ${Math.max(doneLine + 1, fromLine)} to skip what is done`,
      );
      throw interrupted.signal.aborted ? new StartupError("interrupted") : error;
    } finally {
      interrupted.end();
      progress.end();
    }
    if (sinceHeader !== undefined && !stopped) {
      console.error("memory-service: the file ends without a summary: its export did not reach its end");
    }
    const seconds = ((performance.now() - started) / 1_000).toFixed(1);
    const parts = counts.flatMap((name) =>
      sums.get(name) ? [`${formatCount(sums.get(name) ?? 0)} ${name}`] : [],
    );
    console.error(
      `${stopped ? "stopped" : "imported"} after ${formatCount(total())} records in ${seconds} s${parts.length === 0 ? "" : `: ${parts.join(", ")}`}`,
    );
    return (sums.get("rejected") ?? 0) > 0 ? 1 : 0;
  });

  function unreadable(error: unknown): never {
    throw new StartupError(`cannot read ${path}: ${messageOf(error)}`);
  }
}
