import { realpath, writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { create, toJson } from "@bufbuild/protobuf";
import { MemoryRecordSchema } from "memory-service-client/memoryservice/v1/memory_pb.js";
import { abortOnSignal } from "../../cli/abort-on-signal.ts";
import { formatCount, formatMemoryCount } from "../../cli/output/format-count.ts";
import { createProgress, type Progress } from "../../cli/output/progress.ts";
import { UsageError } from "../../cli/usage-error.ts";
import { StartupError } from "../../memory/model/errors.ts";
import { DOMAIN_NAME } from "../../memory/model/limits.ts";
import { makeDirectory } from "../../util/make-directory.ts";
import type { OnConflict } from "../import/choose-action.ts";
import {
  formatImport,
  formatVerification,
  type ImportReport,
  type VerificationReport,
} from "../import/format-import.ts";
import { type ImportCounts, importSource, type Journal } from "../import/import-source.ts";
import { quarantine } from "../import/quarantine.ts";
import {
  decideReuse,
  describeCandidates,
  findCandidates,
  type ReuseCandidates,
} from "../import/reuse-embeddings.ts";
import { rollbackRun } from "../import/rollback-run.ts";
import { findRunDirectory, openRunDirectory, type RunDirectory } from "../import/run-directory.ts";
import { countPending, type TargetDomain } from "../import/target-domain.ts";
import { type Difference, verifySource } from "../import/verify-source.ts";
import { waitForEmbeddings } from "../import/wait-for-embeddings.ts";
import { type LegacySource, openLegacySource } from "../readers/open-legacy-source.ts";
import { withTargetDomain } from "./open-target-domain.ts";

export interface ImportLegacyOptions {
  readonly server?: string;
  readonly domain?: string;
  readonly dryRun?: boolean;
  readonly onConflict?: OnConflict;
  readonly reuseVectors?: boolean;
  readonly verify?: boolean;
  readonly rollback?: string;
  readonly report?: string;
  readonly wait?: boolean;
  readonly json?: boolean;
}

interface Call extends ImportLegacyOptions {
  readonly progress: Progress;
  readonly signal: AbortSignal;
}

/**
 * Brings a data directory of the old system into this one; or checks that, or takes it back. Returns the exit code: 1 if
 * something is not imported, differs, or was left.
 *
 * @throws StartupError, UsageError
 */
export async function importLegacy(
  directory: string | undefined,
  options: ImportLegacyOptions,
): Promise<number> {
  const modes = [
    options.dryRun && "--dry-run",
    options.verify && "--verify",
    options.rollback && "--rollback",
  ];
  const given = modes.filter((mode) => mode);
  if (given.length > 1) throw new UsageError(`${given.join(" and ")} cannot be combined; use one of them`);
  if (directory === undefined && options.rollback === undefined) {
    throw new UsageError(
      "import-legacy requires the data directory of the old server, which contains memory.db",
    );
  }
  if (options.domain !== undefined && !DOMAIN_NAME.test(options.domain)) {
    throw new UsageError(
      `--domain must be a lower-case letter followed by at most 39 of a-z, 0-9, _ and -, got "${options.domain}"`,
    );
  }
  const interrupted = abortOnSignal();
  const progress = createProgress();
  const call = { ...options, progress, signal: interrupted.signal };
  try {
    if (options.rollback !== undefined) return await rollback(options.rollback, call);
    const source = await openLegacySource(directory ?? "", interrupted.signal);
    try {
      return await (options.verify ? verify : bring)(source, call);
    } finally {
      await source.close();
    }
  } catch (error) {
    progress.clear();
    throw interrupted.signal.aborted ? new StartupError("interrupted: run it again to go on") : error;
  } finally {
    progress.clear();
    interrupted.stop();
  }
}

async function bring(source: LegacySource, call: Call): Promise<number> {
  const { dryRun = false, progress } = call;
  const candidates = call.reuseVectors ? findCandidates(source) : undefined;
  return await withTargetDomain({ ...call, readOnly: dryRun }, async (target) => {
    const directory = dryRun ? undefined : await runDirectory(source, target, call);
    try {
      return await bringInto(target, source, candidates, directory, call);
    } catch (error) {
      progress.clear();
      if (directory !== undefined) {
        console.error(
          `memory-service: import ${directory.state.run} is not complete; to go on, give the same command again`,
        );
      }
      throw error;
    }
  });
}

async function bringInto(
  target: TargetDomain,
  source: LegacySource,
  candidates: ReuseCandidates | undefined,
  directory: RunDirectory | undefined,
  call: Call,
): Promise<number> {
  const { dryRun = false, signal, progress } = call;
  const memories = source.database.count("memories");
  const run = directory?.state.run;
  if (run !== undefined) console.error(`${directory?.resumed ? "going on with" : "beginning"} import ${run}`);
  const started = performance.now();
  const now = BigInt(Date.now()) * 1_000n;
  const kept = await quarantine(source, directory && join(directory.path, "quarantine.jsonl"), now);
  const how = {
    onConflict: call.onConflict ?? "skip",
    run: run ?? "",
    journal: directory && journalOf(directory),
    signal,
  } as const;
  const sample: ImportCounts[] = [];
  const reuse =
    candidates === undefined || dryRun
      ? { embeddings: undefined, sentences: candidates === undefined ? [] : describeCandidates(candidates) }
      : await decideReuse(
          source,
          target,
          candidates,
          async (only) => void sample.push(await importSource(source, target, { ...how, only })),
          signal,
        );
  const rest = await importSource(source, target, {
    ...how,
    ...(reuse.embeddings === undefined ? {} : { embeddings: reuse.embeddings }),
    onProgress: (done) => progress.show(formatMemoryCount(done), done, memories),
  });
  const counts = sum(rest, sample);
  const seconds = (performance.now() - started) / 1_000;
  const pending = dryRun
    ? 0
    : call.wait === false
      ? await countPending(target, signal)
      : await embeddings(target, call);
  progress.clear();
  const report: ImportReport = {
    kind: dryRun ? "dry-run" : "import",
    run,
    resumed: directory?.resumed ?? false,
    source: {
      path: source.path,
      kind: source.kind,
      fork: source.database.columns.includes("expires_at"),
      memories,
      vectors: source.vectors.findings,
    },
    target: { name: target.name, domain: target.domain },
    counts,
    quarantine: kept,
    reuse: reuse.sentences,
    pending,
    seconds,
    directory: directory?.path,
  };
  const text = formatImport(report);
  await directory?.write("report.json", `${JSON.stringify(report, undefined, 2)}\n`);
  await directory?.write("report.txt", text);
  await directory?.complete();
  process.stdout.write(call.json ? `${JSON.stringify(report)}\n` : text);
  return isComplete(counts) ? 0 : 1;
}

/** What was imported as a sample is met again, and is there already then. */
function sum(rest: ImportCounts, samples: readonly ImportCounts[]): ImportCounts {
  const counts = { ...rest };
  for (const { created, updated, replaced, renamed, altered } of samples) {
    counts.created += created;
    counts.updated += updated;
    counts.replaced += replaced;
    counts.renamed += renamed;
    counts.altered += altered;
    counts.unchanged -= created + updated + replaced;
  }
  return counts;
}

function isComplete({ conflicts, duplicates, rejected }: ImportCounts): boolean {
  return conflicts + duplicates + rejected === 0;
}

async function runDirectory(
  source: LegacySource,
  target: TargetDomain,
  { report }: Call,
): Promise<RunDirectory> {
  const path = await realpath(source.path);
  return await openRunDirectory(report, { source: path, target: target.name, domain: target.domain });
}

function journalOf(directory: RunDirectory): Journal {
  return {
    brought: (memories) => directory.append("brought.jsonl", memories),
    replaced: (memories) =>
      directory.append(
        "replaced.jsonl",
        memories.map((memory) => ({
          record: toJson(MemoryRecordSchema, create(MemoryRecordSchema, { memory })),
        })),
      ),
    details: (details) => directory.append("details.jsonl", details),
  };
}

async function embeddings(target: TargetDomain, { progress, signal }: Call): Promise<number> {
  let most = 0;
  return await waitForEmbeddings(
    target,
    (pending) => {
      most = Math.max(most, pending);
      progress.show(`embedding, ${formatCount(pending)} to go`, most - pending, most);
    },
    signal,
  );
}

async function verify(source: LegacySource, call: Call): Promise<number> {
  const { signal, progress } = call;
  const memories = source.database.count("memories");
  return await withTargetDomain(call, async (target) => {
    const directory = resolve(
      call.report ?? `import-legacy-verify-${new Date().toISOString().replace(/\.\d+|[-:]/g, "")}`,
    );
    try {
      makeDirectory(directory);
    } catch (error) {
      const { message } = error as Error;
      throw new StartupError(`cannot write the report: ${message}; name another place with --report`);
    }
    const differences: Difference[] = [];
    const result = await verifySource(source, target, {
      onDifference: async (difference) => void differences.push(difference),
      onProgress: (done) => progress.show(`${formatMemoryCount(done)} compared`, done, memories),
      signal,
    });
    progress.clear();
    const report: VerificationReport = {
      kind: "verification",
      source: source.path,
      target: { name: target.name, domain: target.domain },
      ...result,
    };
    const text = formatVerification(report);
    await writeFile(join(directory, "verification.json"), `${JSON.stringify(report, undefined, 2)}\n`);
    await writeFile(join(directory, "verification.txt"), text);
    await writeFile(
      join(directory, "differences.jsonl"),
      differences.map((difference) => `${JSON.stringify(difference)}\n`).join(""),
    );
    process.stdout.write(call.json ? `${JSON.stringify(report)}\n` : text);
    return differences.length === 0 ? 0 : 1;
  });
}

async function rollback(run: string, call: Call): Promise<number> {
  const directory = await findRunDirectory(call.report, run);
  return await withTargetDomain(
    { ...call, domain: call.domain ?? directory?.state.domain },
    async (target) => {
      if (directory !== undefined && directory.state.target !== target.name) {
        throw new UsageError(
          `import ${run} went into ${directory.state.target}, this is ${target.name}: name that with --server, or in the settings`,
        );
      }
      if (directory === undefined) {
        console.error(
          `memory-service: the directory of import ${run} is not here: memories that it replaced cannot be put back (name it with --report)`,
        );
      }
      const result = await rollbackRun(run, target, directory, {
        onLeft: async (id, why) => {
          call.progress.clear();
          console.error(`memory "${id}" is left: ${why}`);
        },
        onProgress: (done) => call.progress.show(formatMemoryCount(done)),
        signal: call.signal,
      });
      call.progress.clear();
      const { removed, restored, changed, gone, failed } = result;
      if (directory === undefined && removed + restored + changed + gone + failed === 0) {
        throw new UsageError(
          `there is nothing of an import ${run} in domain "${target.domain}" of ${target.name}: name its domain with --domain`,
        );
      }
      process.stdout.write(
        call.json
          ? `${JSON.stringify({ kind: "rollback", run, ...result })}\n`
          : `rollback of import ${run} in domain "${target.domain}" of ${target.name}: ${[
              `${formatMemoryCount(removed)} removed`,
              ...(restored > 0 ? [`${formatCount(restored)} put back as they were before`] : []),
              ...(gone > 0 ? [`${formatCount(gone)} were gone already`] : []),
              ...(changed > 0 ? [`${formatCount(changed)} left, since they were changed`] : []),
              ...(failed > 0 ? [`${formatCount(failed)} could not be put back`] : []),
            ].join(", ")}\n`,
      );
      return changed + failed === 0 ? 0 : 1;
    },
  );
}
