import { formatMemoryCount } from "../output/format-count.ts";
import { type Check, warning } from "./check.ts";
import type { EmbedderFindings } from "./check-embedder.ts";
import type { InspectedDomain } from "./inspect-domains.ts";

/** Checks whether the embeddings of each domain are complete and come from the configured model. */
export function checkDomains(domains: readonly InspectedDomain[], embedder: EmbedderFindings): Check[] {
  return domains.flatMap((domain) => [
    ...checkEmbeddingModel(domain, embedder),
    ...checkFailedEmbeddings(domain),
    ...checkOlderVersions(domain),
  ]);
}

function checkEmbeddingModel(
  { report, digest, profile, ownModel }: InspectedDomain,
  { checks, model, space }: EmbedderFindings,
): Check[] {
  const { name, memories } = report;
  const consequence = `the server re-embeds its ${formatMemoryCount(memories)}; until then only full-text search finds them`;
  // With an unusable model, nothing is re-embedded; the check of the model reports that.
  const unusable = checks.some((check) => check.status === "problem");
  if (report.model === null || memories === 0 || unusable || ownModel) return [];
  if (report.model !== model) {
    const dimensions =
      space === undefined || space.dimensions === report.dimensions
        ? ""
        : ` (${report.dimensions} dimensions, now ${space.dimensions})`;
    const detail = `domain "${name}" was embedded by ${report.model}, but ${model} is configured${dimensions}: ${consequence}`;
    return [warning("domain", detail, `to keep its embeddings, set OLLAMA_EMBEDDING_MODEL=${report.model}`)];
  }
  const same =
    space?.digest === digest && space.profile === profile && space.dimensions === report.dimensions;
  if (space === undefined || same) return [];
  const detail = `domain "${name}" was embedded by another version of ${model}: ${consequence}`;
  return [warning("domain", detail, "keep a server running; it re-embeds in the background")];
}

function checkFailedEmbeddings({ report, failureReason }: InspectedDomain): Check[] {
  if (report.failed === 0) return [];
  const reason = failureReason === undefined ? "" : ` (${failureReason})`;
  return [
    warning(
      "domain",
      `${formatMemoryCount(report.failed)} of domain "${report.name}" could not be embedded${reason}; only full-text search finds them`,
      "fix the cause, then call MemoryService.RetryFailed",
    ),
  ];
}

function checkOlderVersions({ report }: InspectedDomain): Check[] {
  if (report.olderVersions === 0) return [];
  return [
    warning(
      "domain",
      `${formatMemoryCount(report.olderVersions)} of domain "${report.name}" have embeddings of an older version; only full-text search finds them`,
      "keep a server running; it re-embeds them in the background",
    ),
  ];
}
