import { realpath } from "node:fs/promises";
import { join } from "node:path";
import { create, toJson } from "@bufbuild/protobuf";
import { MemoryRecordSchema } from "memory-service-client/memoryservice/v1/memory_pb.js";
import { formatCount, formatMemoryCount } from "../../cli/output/format-count.ts";
import { formatImport, type ImportReport } from "../import/format-import.ts";
import type { ImportCounts } from "../import/import-counts.ts";
import { type ImportOptions, importSource, type Journal } from "../import/import-source.ts";
import { quarantine } from "../import/quarantine.ts";
import { describeCandidates, findCandidates, type ReuseCandidates } from "../import/reuse-candidates.ts";
import { decideReuse } from "../import/reuse-embeddings.ts";
import { openRunDirectory, type RunDirectory } from "../import/run-directory.ts";
import { countPending, type TargetDomain } from "../import/target-domain.ts";
import { waitForEmbeddings } from "../import/wait-for-embeddings.ts";
import type { LegacySource } from "../readers/open-legacy-source.ts";
import type { ImportLegacyCall } from "./import-legacy-options.ts";
import { withTargetDomain } from "./open-target-domain.ts";

/** Imports a source, or shows what an import would do. Returns the exit code. */
export async function runImport(source: LegacySource, call: ImportLegacyCall): Promise<number> {
  const { dryRun = false, progress } = call;
  const candidates = call.reuseVectors ? findCandidates(source) : undefined;
  return await withTargetDomain({ ...call, readOnly: dryRun }, async (target) => {
    const directory = dryRun ? undefined : await openDirectory(source, target, call);
    try {
      return await importInto(target, source, candidates, directory, call);
    } catch (error) {
      progress.clear();
      if (directory !== undefined) {
        console.error(
          `memory-service: import ${directory.state.run} is incomplete; run the same command again to resume`,
        );
      }
      throw error;
    }
  });
}

async function importInto(
  target: TargetDomain,
  source: LegacySource,
  candidates: ReuseCandidates | undefined,
  directory: RunDirectory | undefined,
  call: ImportLegacyCall,
): Promise<number> {
  const { dryRun = false, signal, progress } = call;
  const memories = source.database.count("memories");
  const run = directory?.state.run;
  if (run !== undefined) console.error(`${directory?.resumed ? "resuming" : "starting"} import ${run}`);
  const started = performance.now();
  const now = BigInt(Date.now()) * 1_000n;
  const quarantined = await quarantine(source, directory && join(directory.path, "quarantine.jsonl"), now);
  const options: ImportOptions = {
    onConflict: call.onConflict ?? "skip",
    run: run ?? "",
    journal: directory && journalOf(directory),
    signal,
  };
  const samples: ImportCounts[] = [];
  const importSample: Parameters<typeof decideReuse>[3] = async (only) => {
    samples.push(await importSource(source, target, { ...options, only }));
  };
  const reuse =
    candidates === undefined || dryRun
      ? { embeddings: undefined, sentences: candidates === undefined ? [] : describeCandidates(candidates) }
      : await decideReuse(source, target, candidates, importSample, signal);
  const rest = await importSource(source, target, {
    ...options,
    ...(reuse.embeddings === undefined ? {} : { embeddings: reuse.embeddings }),
    onProgress: (done) => progress.show(formatMemoryCount(done), done, memories),
  });
  const counts = addCounts(rest, samples);
  const seconds = (performance.now() - started) / 1_000;
  const pending = await countUnembedded(target, call);
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
    quarantine: quarantined,
    reuse: reuse.sentences,
    pending,
    seconds,
    directory: directory?.path,
  };
  await writeReport(report, directory, call);
  return counts.conflicts + counts.duplicates + counts.rejected === 0 ? 0 : 1;
}

/** Adds the counts of the samples to those of the remaining import, which found the samples unchanged. */
function addCounts(rest: ImportCounts, samples: readonly ImportCounts[]): ImportCounts {
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

/** Waits for the embeddings if the options say so. Returns the number of memories without one. */
async function countUnembedded(target: TargetDomain, call: ImportLegacyCall): Promise<number> {
  const { dryRun = false, wait = true, progress, signal } = call;
  if (dryRun) return 0;
  if (!wait) return await countPending(target, signal);
  let total = 0;
  return await waitForEmbeddings(
    target,
    (pending) => {
      total = Math.max(total, pending);
      progress.show(`embedding, ${formatCount(pending)} left`, total - pending, total);
    },
    signal,
  );
}

async function writeReport(
  report: ImportReport,
  directory: RunDirectory | undefined,
  { json }: ImportLegacyCall,
): Promise<void> {
  const text = formatImport(report);
  await directory?.write("report.json", `${JSON.stringify(report, undefined, 2)}\n`);
  await directory?.write("report.txt", text);
  await directory?.complete();
  process.stdout.write(json ? `${JSON.stringify(report)}\n` : text);
}

async function openDirectory(
  source: LegacySource,
  target: TargetDomain,
  { report }: ImportLegacyCall,
): Promise<RunDirectory> {
  const path = await realpath(source.path);
  return await openRunDirectory(report, { source: path, target: target.name, domain: target.domain });
}

function journalOf(directory: RunDirectory): Journal {
  return {
    appendImported: (memories) => directory.append("brought.jsonl", memories),
    appendReplaced: (memories) =>
      directory.append(
        "replaced.jsonl",
        memories.map((memory) => ({
          record: toJson(MemoryRecordSchema, create(MemoryRecordSchema, { memory })),
        })),
      ),
    appendDetails: (details) => directory.append("details.jsonl", details),
  };
}
