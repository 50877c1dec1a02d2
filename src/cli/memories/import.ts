import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import { StartupError } from "../../util/startup-error.ts";
import { abortOnSignal } from "../abort-on-signal.ts";
import { oneLineMessageOf, wholeNumberFrom } from "../client/parse-options.ts";
import { serverUrl, withClient } from "../client/server-client.ts";
import { formatCount } from "../output/format-count.ts";
import { createProgress } from "../output/progress.ts";
import { type ImportOptions, ImportRun } from "./import-run.ts";
import { readLines } from "./read-lines.ts";

/** Imports a file that `exportDomain` has written; the path `-` stands for standard input. Returns the exit code. */
export async function importFile(path: string, options: ImportOptions): Promise<number> {
  const fromLine = wholeNumberFrom("--from-line", options.fromLine ?? "1");
  const size = path === "-" ? undefined : (await stat(path).catch(throwUnreadable)).size;
  const bytes: AsyncIterable<Uint8Array> = path === "-" ? process.stdin : createReadStream(path);

  return await withClient(await serverUrl(options.server), async ({ memories }) => {
    const interrupted = abortOnSignal();
    const progress = createProgress();
    const started = performance.now();
    const run = new ImportRun(memories, options, { fromLine, size, progress, signal: interrupted.signal });
    try {
      for await (const line of readLines(bytes)) {
        await run.add(line);
        if (run.stopped) break;
        interrupted.signal.throwIfAborted();
      }
      await run.flush();
    } catch (error) {
      progress.clear();
      console.error(
        `memory-service: the import is incomplete; run it again with --from-line ${run.nextLine} to skip the lines that are done`,
      );
      throw interrupted.signal.aborted ? new StartupError("interrupted") : error;
    } finally {
      interrupted.stop();
      progress.clear();
    }
    if (run.lacksSummary) {
      console.error("memory-service: the file has no summary at its end; its export was incomplete");
    }
    const seconds = ((performance.now() - started) / 1_000).toFixed(1);
    const counts = run.counts().map(([name, count]) => `${formatCount(count)} ${name}`);
    console.error(
      `${run.stopped ? "stopped" : "imported"} after ${formatCount(run.total)} records in ${seconds} s${counts.length === 0 ? "" : `: ${counts.join(", ")}`}`,
    );
    return run.hasRejections ? 1 : 0;
  });

  function throwUnreadable(error: unknown): never {
    throw new StartupError(`cannot read ${path}: ${oneLineMessageOf(error)}`);
  }
}
