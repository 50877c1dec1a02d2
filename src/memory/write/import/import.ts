import type { CallContext } from "../../model/call-context.ts";
import type { EmbeddingVersionRecord } from "../../model/domain.ts";
import type { StoreResult } from "../../model/draft.ts";
import { ServiceError } from "../../model/errors.ts";
import { LIMITS } from "../../model/limits.ts";
import type { IfExists } from "../store-command.ts";
import type { BadRecord, ImportedRecord } from "./import-record.ts";
import { createImportStep, type ImportItem, itemFromRecord } from "./import-step.ts";
import type { StoreRecords } from "./store-records.ts";

export interface ImportCommand {
  readonly ifExists: IfExists;
  /** stop: at the first record that cannot be stored. */
  readonly onError: "stop" | "continue";
  /** What computed the chunks of the records. Its number in the exporting database does not matter. */
  readonly embeddingVersion: Omit<EmbeddingVersionRecord, "version"> | undefined;
  readonly records: AsyncIterable<ImportedRecord | BadRecord>;
}

export interface Rejection extends BadRecord {
  /** Position among the records, from 0. */
  readonly index: number;
}

/** The number of records with each outcome, and why the first of the rejected records failed. */
export interface ImportReport {
  created: number;
  replaced: number;
  unchanged: number;
  kept: number;
  duplicate: number;
  expired: number;
  rejected: number;
  readonly rejections: Rejection[];
  stopped: boolean;
}

/**
 * Stores records in steps, each in its own transaction.
 *
 * @param onStep Called after each step with the report so far.
 * @throws ServiceError for a failure that no record causes. Earlier steps remain stored.
 */
export type Import = (
  command: ImportCommand,
  call: CallContext,
  onStep?: (soFar: Readonly<ImportReport>) => void,
) => Promise<ImportReport>;

export function createImport(dependencies: {
  readonly storeRecords: StoreRecords;
  /** Called with the domain of a new pending memory that this server is not embedding. */
  readonly onPending: (domain: string) => void;
}): Import {
  const { storeRecords, onPending } = dependencies;

  return async ({ ifExists, onError, embeddingVersion, records }, { signal }, onStep) => {
    const report = emptyReport();
    const stopOnError = onError === "stop";
    let index = 0;
    let step = createImportStep();
    for await (const record of records) {
      signal.throwIfAborted();
      const item = itemFromRecord(record, index++);
      if (!step.fits(item)) {
        await flush(step.items);
        step = createImportStep();
      }
      if (report.stopped) break;
      step.add(item);
      if (stopOnError && item.content instanceof ServiceError) break;
    }
    if (!report.stopped) await flush(step.items);
    return report;

    async function flush(items: readonly ImportItem[]): Promise<void> {
      const results = await storeRecords(items, { ifExists, stopOnError, embeddingVersion }, signal);
      const pending = new Set<string>();
      for (const item of items) {
        const result = item.content === "expired" ? "expired" : results.get(item);
        if (result === undefined) throw new Error(`record ${item.index} has no result`);
        count(report, item, result);
        if (result instanceof ServiceError && stopOnError) {
          report.stopped = true;
          break;
        }
        if (isPending(result)) pending.add(result.memory.domain);
      }
      onStep?.(report);
      for (const domain of pending) onPending(domain);
    }
  };
}

function emptyReport(): ImportReport {
  return {
    created: 0,
    replaced: 0,
    unchanged: 0,
    kept: 0,
    duplicate: 0,
    expired: 0,
    rejected: 0,
    rejections: [],
    stopped: false,
  };
}

function count(
  report: ImportReport,
  { index, id }: ImportItem,
  result: StoreResult | ServiceError | "expired",
): void {
  if (result === "expired") report.expired++;
  else if (!(result instanceof ServiceError)) report[result.outcome]++;
  else {
    report.rejected++;
    if (report.rejections.length < LIMITS.importRejections) {
      report.rejections.push({ index, id, error: result });
    }
  }
}

function isPending(result: StoreResult | ServiceError | "expired"): result is StoreResult {
  if (result === "expired" || result instanceof ServiceError) return false;
  return result.memory.embedding.state === "pending";
}
