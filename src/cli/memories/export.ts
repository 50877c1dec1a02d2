import { once } from "node:events";
import { toJson } from "@bufbuild/protobuf";
import type { MemoryClient } from "memory-service-client";
import {
  type ExportRequest,
  ExportResponseSchema,
} from "memory-service-client/memoryservice/v1/memory_service_pb.js";
import { StartupError } from "../../util/startup-error.ts";
import { abortOnSignal } from "../abort-on-signal.ts";
import { filterFrom } from "../client/parse-options.ts";
import { serverUrl, withClient } from "../client/server-client.ts";
import { formatMemoryCount } from "../output/format-count.ts";
import { createProgress } from "../output/progress.ts";

export interface ExportOptions {
  readonly server?: string;
  readonly domain?: string;
  readonly filter?: string;
  readonly embeddings?: boolean;
  readonly cursor?: string;
}

/**
 * Writes a domain to standard output, one ExportResponse per line in protobuf's JSON form. The cursors are omitted,
 * because they mean nothing on another server.
 */
export async function exportDomain(options: ExportOptions): Promise<void> {
  const request = {
    domain: options.domain ?? "",
    includeEmbeddings: options.embeddings ?? false,
    cursor: options.cursor ?? "",
    ...(options.filter === undefined ? {} : { filter: filterFrom(options.filter) }),
  };
  await withClient(await serverUrl(options.server), async (client) => {
    const interrupted = abortOnSignal();
    const progress = createProgress();
    const started = performance.now();
    const total = await countForProgress(client, request);
    let { cursor } = request;
    let records = 0;
    let complete = false;
    try {
      for await (const response of client.memories.export(request, { signal: interrupted.signal })) {
        const after = response.cursor;
        response.cursor = "";
        // Without the time, two exports of the same memories are the same file.
        if (response.item.case === "header") delete response.item.value.exportTime;
        await write(`${JSON.stringify(toJson(ExportResponseSchema, response))}\n`);
        if (response.item.case === "record") {
          cursor = after;
          progress.show(formatMemoryCount(++records), records, total);
        }
        complete = response.item.case === "summary";
      }
      if (!complete) throw new StartupError("the server ended the export before its summary");
    } catch (error) {
      progress.clear();
      const hint = cursor === "" ? "" : `; to resume, append the output of --cursor ${cursor}`;
      console.error(`memory-service: the export is incomplete after ${formatMemoryCount(records)}${hint}`);
      throw interrupted.signal.aborted ? new StartupError("interrupted") : error;
    } finally {
      interrupted.stop();
      progress.clear();
    }
    const seconds = ((performance.now() - started) / 1_000).toFixed(1);
    console.error(`exported ${formatMemoryCount(records)} in ${seconds} s`);
  });
}

/** Counts the memories if a progress bar will be shown. Counting takes a while. */
async function countForProgress(
  { domains }: MemoryClient["raw"],
  { domain, filter, cursor }: Partial<ExportRequest>,
): Promise<number | undefined> {
  if (!process.stderr.isTTY || filter !== undefined || cursor) return undefined;
  const response = await domains.getDomain({ name: domain ?? "" }).catch(() => undefined);
  return response?.domain === undefined ? undefined : Number(response.domain.memoryCount);
}

/** Writes to standard output at the pace of the reader. */
async function write(text: string): Promise<void> {
  if (!process.stdout.write(text)) await once(process.stdout, "drain");
}
