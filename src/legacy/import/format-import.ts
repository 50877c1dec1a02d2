import { formatCount } from "../../cli/output/format-count.ts";
import type { VectorFindings } from "../readers/inspect-vectors.ts";
import type { ImportCounts } from "./import-counts.ts";
import type { QuarantineCounts } from "./quarantine.ts";
import type { Verification } from "./verify-source.ts";

/** The report of an import, which is written as JSON. */
export interface ImportReport {
  readonly kind: "import" | "dry-run";
  /** Undefined for a dry run. */
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
  /** What happened to the old embeddings, as sentences. */
  readonly reuse: readonly string[];
  /** Number of memories that wait for their embedding. */
  readonly pending: number;
  readonly seconds: number;
  /** Directory of the run. */
  readonly directory: string | undefined;
}

/** The report of a verification. */
export interface VerificationReport extends Verification {
  readonly kind: "verification";
  readonly source: string;
  readonly target: { readonly name: string; readonly domain: string };
}

/** Formats the report as text. */
export function formatImport(report: ImportReport): string {
  const { source, target, counts, quarantine, run } = report;
  const dry = report.kind === "dry-run";
  const stored = counts.created + counts.updated + counts.replaced;
  const rate = report.seconds > 0 ? Math.round(stored / report.seconds) : stored;
  const lines = [
    `${dry ? "dry run" : `import ${run}${report.resumed ? " (resumed)" : ""}`}: ${source.path} (${
      source.kind === "export"
        ? "export of the fork"
        : source.fork
          ? "data directory of the fork"
          : "data directory of the old server"
    }) into domain "${target.domain}" of ${target.name}`,
    "",
    "found",
    ...found(source.memories, source.vectors),
    ...quarantined(quarantine, dry),
    "",
    dry ? "would do" : "done",
    ...list([
      [counts.created, "memories stored"],
      [counts.renamed, "of them under another id because theirs is taken"],
      [counts.updated, "memories updated, which changed in the source since an earlier import"],
      [counts.replaced, "memories stored in place of different ones, which are in replaced.jsonl"],
      [counts.unchanged, "memories unchanged since an earlier import"],
      [counts.changedHere, "memories kept, which changed in the target since an earlier import"],
      [
        counts.altered,
        "memories altered where PostgreSQL or JSON cannot store them; their record keeps the original",
      ],
      [counts.reused, "memories stored with their old embeddings"],
      [counts.expired, "memories skipped because they have expired (see quarantine.jsonl)"],
      [
        counts.conflicts,
        "NOT imported: a different memory has their id (use --on-conflict rename or replace)",
      ],
      [counts.duplicates, "NOT imported: the domain stores each content once and already has theirs"],
      [counts.rejected, "NOT imported: rejected (see details.jsonl)"],
    ]),
    ...(stored + counts.unchanged + counts.changedHere === 0 ? ["  nothing"] : []),
    ...report.reuse.map((sentence) => `  ${sentence}`),
  ];
  if (!dry) {
    lines.push(
      "",
      report.pending === 0
        ? `complete in ${report.seconds.toFixed(1)} s (${formatCount(rate)} memories/s); every memory is embedded`
        : `stored in ${report.seconds.toFixed(1)} s (${formatCount(rate)} memories/s); ${formatCount(report.pending)} memories wait for their embedding, which a server computes as soon as the embedder is available; until then only full-text search finds them`,
      `report and quarantine: ${report.directory}`,
      `to verify: memory-service import-legacy --verify ${source.path}`,
      `to roll back: memory-service import-legacy --rollback ${run}`,
    );
  }
  return `${lines.join("\n")}\n`;
}

function found(memories: number, vectors: VectorFindings): string[] {
  const { states } = vectors;
  return [
    `  ${formatCount(memories)} memories`,
    ...(vectors.problem === undefined ? [] : [`  no old embedding can be used: ${vectors.problem}`]),
    ...list([
      [states.ok, `memories with valid old embeddings (${vectors.dimensions} dimensions)`],
      [
        states.zero,
        "memories whose old embeddings are all zero or not numbers (the embedder was unavailable)",
      ],
      [states["partly-zero"], "memories some of whose old embeddings are zero"],
      [states.missing, "memories without old embeddings"],
      [states["no-row"], "memories whose old embeddings are missing from the index"],
      [states.unreliable, "memories whose old embeddings may belong to other memories"],
      [vectors.textStale, "memories whose old embeddings belong to an earlier text"],
      [vectors.metadataStale, "memories whose chunks missed a change of the metadata only"],
      [vectors.notMapped, "chunks in use that are missing from the old server's map"],
      [vectors.zeroRows, "rows of the index that are zero"],
    ]),
  ];
}

function quarantined(counts: QuarantineCounts, dry: boolean): string[] {
  const lines = list([
    [counts.tombstone, "chunks of earlier texts (tombstones)"],
    [counts["orphan-chunk"], "chunks of memories that no longer exist (orphans)"],
    [counts["stale-chunk"], "chunks that missed a change of their memory"],
    [counts.unread, "unreadable parts of faiss_metadata.json"],
    [counts.version, "earlier versions of memories, from the fork"],
    [counts.checkpoint, "checkpoints, from the fork"],
    [counts.expired, "expired memories"],
    [counts.row, "rows of unknown tables"],
  ]);
  if (lines.length === 0) return [];
  return [
    `  not live memories${dry ? "" : ", written to quarantine.jsonl"}:`,
    ...lines.map((line) => `  ${line}`),
  ];
}

/** Formats the report of a verification as text. */
export function formatVerification(report: VerificationReport): string {
  const { memories, equal, expired } = report;
  const differences = report.missing + report.changed + report.differing + report.extra;
  return `${[
    `verification: ${report.source} against domain "${report.target.domain}" of ${report.target.name}`,
    "",
    `  ${formatCount(equal)} of ${formatCount(memories - expired)} memories are identical`,
    ...list([
      [expired, "have expired and are not in the target"],
      [report.missing, "are MISSING"],
      [report.differing, "DIFFER from what was imported"],
      [report.changed, "were CHANGED in the target since the import"],
      [report.extra, "were imported but are NOT in the source"],
      [report.ready, "are embedded"],
      [report.pending, "wait for their embedding"],
      [report.empty, "have no text to embed"],
      [report.failed - report.empty, "could not be embedded"],
    ]),
    "",
    differences === 0 ? "no differences" : `${formatCount(differences)} differences; see differences.jsonl`,
  ].join("\n")}\n`;
}

/** Formats the counts that are not zero, one per line. */
function list(entries: readonly (readonly [number, string])[]): string[] {
  return entries.filter(([count]) => count > 0).map(([count, text]) => `  ${formatCount(count)} ${text}`);
}
