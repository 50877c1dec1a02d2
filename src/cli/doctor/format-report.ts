import type { Check, DomainReport, Report } from "./check.ts";

/** Formats the report as text. */
export function formatReport({ checks, domains }: Report): string {
  return [formatChecks(checks), ...(domains.length > 0 ? [formatDomains(domains)] : []), summary(checks)]
    .map((part) => `${part}\n`)
    .join("\n");
}

function formatChecks(checks: readonly Check[]): string {
  const rows = checks.map(({ status, name }) => [status, name]);
  return align(rows)
    .map((head, i) => {
      const { detail = "", remedy } = checks[i] ?? {};
      return `${head}  ${detail}${remedy === undefined ? "" : `\n${" ".repeat(head.length)}  -> ${remedy}`}`;
    })
    .join("\n");
}

function formatDomains(domains: readonly DomainReport[]): string {
  const rows = domains.map((domain) => [
    domain.name,
    ...[domain.memories, domain.pending, domain.failed, domain.olderVersions].map(String),
    domain.model === null ? "none yet" : `${domain.model}, ${domain.dimensions} dimensions`,
  ]);
  const head = ["domain", "memories", "pending", "failed", "older versions", "embeddings"];
  return align([head, ...rows])
    .map((line) => line.trimEnd())
    .join("\n");
}

/** Pads the cells of each column to equal width. Columns of numbers are aligned to the right. */
function align(rows: readonly (readonly string[])[]): string[] {
  const columns = rows[0]?.length ?? 0;
  const widths = Array.from({ length: columns }, (_, column) =>
    Math.max(...rows.map((row) => row[column]?.length ?? 0)),
  );
  return rows.map((row) =>
    row
      .map((cell, column) => {
        const isNumber = /^\d+$/.test(rows.at(-1)?.[column] ?? "");
        const width = widths[column] ?? 0;
        return isNumber ? cell.padStart(width) : cell.padEnd(width);
      })
      .join("  "),
  );
}

function summary(checks: readonly Check[]): string {
  const count = (status: Check["status"], word: string) => {
    const number = checks.filter((check) => check.status === status).length;
    return `${number} ${word}${number === 1 ? "" : "s"}`;
  };
  return `${count("problem", "problem")}, ${count("warning", "warning")}`;
}
