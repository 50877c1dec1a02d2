import type { VectorFindings } from "../readers/inspect-vectors.ts";
import type { ImportCounts } from "./import-source.ts";
import type { QuarantineCounts } from "./quarantine.ts";
import type { Verification } from "./verify-source.ts";

/** All that there is to say about an import: the report as JSON. */
export interface ImportReport {
  readonly kind: "import" | "dry-run";
  /** Undefined of a dry run. */
  readonly run: string | undefined;
  readonly resumed: boolean;
  readonly source: {
    readonly path: string;
    readonly kind: "directory" | "export";
    readonly fork: boolean;
    readonly memories: number;
    readonly vectors: VectorFindings;
  };
  readonly target: { readonly name: string; readonly domain: string };
  readonly counts: ImportCounts;
  readonly quarantine: QuarantineCounts;
  /** What became of the old embeddings, a sentence each. */
  readonly reuse: readonly string[];
  /** Memories whose embedding is still to be made. */
  readonly pending: number;
  readonly seconds: number;
  /** Where the files of the run are. */
  readonly directory: string | undefined;
}

/** The report of a verification. */
export interface VerificationReport extends Verification {
  readonly kind: "verification";
  readonly source: string;
  readonly target: { readonly name: string; readonly domain: string };
}

/** The report for people. */
export function formatImport(report: ImportReport): string {
  const { source, target, counts, quarantine, run } = report;
  const dry = report.kind === "dry-run";
  const stored = counts.created + counts.updated + counts.replaced;
  const rate = report.seconds > 0 ? Math.round(stored / report.seconds) : stored;
  const lines = [
    `${dry ? "dry run" : `import ${run}${report.resumed ? ", which was interrupted" : ""}`}: ${source.path} (${
      source.kind === "export"
        ? "an export of the fork"
        : source.fork
          ? "written by the fork"
          : "of the old system"
    }) into domain "${target.domain}" of ${target.name}`,
    "",
    "found",
    ...found(source.memories, source.vectors),
    ...quarantined(quarantine, dry),
    "",
    dry ? "would be done" : "done",
    ...list([
      [counts.created, "memories stored"],
      [counts.renamed, "of them under another id, since theirs is taken"],
      [counts.updated, "brought up to date: changed in the source since an earlier import"],
      [counts.replaced, "stored in place of another memory, which is kept in replaced.jsonl"],
      [counts.unchanged, "left as they are: there already"],
      [counts.changedHere, "left as they are: changed in the target since an earlier import"],
      [counts.altered, "with what PostgreSQL or JSON does not hold: replaced, and kept in their record"],
      [counts.reused, "with the embeddings of the old system"],
      [counts.expired, "left out: their time is over (in the quarantine)"],
      [counts.conflicts, "NOT imported: another memory has their id (--on-conflict rename or replace)"],
      [counts.duplicates, "NOT imported: the domain keeps each content once and has theirs"],
      [counts.rejected, "NOT imported: refused (see details.jsonl)"],
    ]),
    ...(stored + counts.unchanged + counts.changedHere === 0 ? ["  nothing"] : []),
    ...report.reuse.map((sentence) => `  ${sentence}`),
  ];
  if (!dry) {
    lines.push(
      "",
      report.pending === 0
        ? `complete in ${report.seconds.toFixed(1)} s (${formatCount(rate)} memories/s), every embedding is made`
        : `stored in ${report.seconds.toFixed(1)} s (${formatCount(rate)} memories/s); ${formatCount(report.pending)} memories wait for their embedding, which a server makes as soon as it reaches the embedder; until then they are found by their words`,
      `report and quarantine: ${report.directory}`,
      `to check: memory-service import-legacy --verify ${source.path}`,
      `to undo: memory-service import-legacy --rollback ${run}`,
    );
  }
  return `${lines.join("\n")}\n`;
}

function found(memories: number, vectors: VectorFindings): string[] {
  const { states } = vectors;
  return [
    `  ${formatCount(memories)} memories`,
    ...(vectors.problem === undefined
      ? []
      : [`  none of the old embeddings can be used: ${vectors.problem}`]),
    ...list([
      [states.ok, `with sound old embeddings (${vectors.dimensions} dimensions)`],
      [states.zero, "whose old embeddings are all 0 (the embedder was away, or failed), or no numbers"],
      [states["partly-zero"], "some of whose old embeddings are 0"],
      [states.missing, "without old embeddings"],
      [states["no-row"], "whose old embeddings are missing in the index"],
      [states.unreliable, "whose old embeddings may belong to others"],
      [vectors.textStale, "whose old embeddings are of a former text"],
      [vectors.metadataStale, "whose chunks missed a change of metadata only"],
      [vectors.notMapped, "chunks in use that the old system had lost sight of"],
      [vectors.zeroRows, "rows of the index are 0"],
    ]),
  ];
}

function quarantined(counts: QuarantineCounts, dry: boolean): string[] {
  const lines = list([
    [counts.tombstone, "chunks of former texts (tombstones)"],
    [counts["orphan-chunk"], "chunks of memories that are gone (orphans)"],
    [counts["stale-chunk"], "chunks that missed a change of their memory"],
    [counts.unread, "pieces of faiss_metadata.json that could not be read"],
    [counts.version, "former versions of the fork"],
    [counts.checkpoint, "checkpoints of the fork"],
    [counts.expired, "memories whose time is over"],
    [counts.row, "rows of tables that nobody knows"],
  ]);
  if (lines.length === 0) return [];
  return [
    `  no live memories${dry ? "" : ", kept in quarantine.jsonl"}:`,
    ...lines.map((line) => `  ${line}`),
  ];
}

/** The verification for people. */
export function formatVerification(report: VerificationReport): string {
  const { memories, equal, expired } = report;
  const bad = report.missing + report.changed + report.differing + report.extra;
  return `${[
    `verification: ${report.source} against domain "${report.target.domain}" of ${report.target.name}`,
    "",
    `  ${formatCount(equal)} of ${formatCount(memories - expired)} memories are equal in every byte`,
    ...list([
      [expired, "have expired and are not there"],
      [report.missing, "are MISSING"],
      [report.differing, "DIFFER from what was imported"],
      [report.changed, "were CHANGED in the target since they were imported"],
      [report.extra, "in the target were imported and are NOT in the source"],
      [report.ready, "have their embedding"],
      [report.pending, "wait for their embedding"],
      [report.empty, "have no text to embed"],
      [report.failed - report.empty, "could not be embedded"],
    ]),
    "",
    bad === 0 ? "clean" : `${formatCount(bad)} differences, see differences.jsonl`,
  ].join("\n")}\n`;
}

/** Those that there are. */
function list(entries: readonly (readonly [number, string])[]): string[] {
  return entries.filter(([count]) => count > 0).map(([count, what]) => `  ${formatCount(count)} ${what}`);
}

function formatCount(count: number): string {
  return count.toLocaleString("en-US");
}
