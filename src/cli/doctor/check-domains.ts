import { formatMemoryCount } from "../output/progress.ts";
import { type Check, warning } from "./check.ts";
import type { EmbedderFindings } from "./check-embedder.ts";
import type { InspectedDomain } from "./inspect-domains.ts";

/** Checks whether the embeddings of each domain are complete and those of the configured model. */
export function checkDomains(domains: readonly InspectedDomain[], embedder: EmbedderFindings): Check[] {
  return domains.flatMap((domain) => [
    ...checkModelOf(domain, embedder),
    ...checkFailed(domain),
    ...checkOlder(domain),
  ]);
}

function checkModelOf(
  { report, digest, profile, ownModel }: InspectedDomain,
  { checks, model, space }: EmbedderFindings,
): Check[] {
  const { name, memories } = report;
  const follows = `the server embeds its ${formatMemoryCount(memories)} again, found by words only until then`;
  // With a model that cannot be used nothing is embedded again: a check of its own says so.
  const unusable = checks.some((check) => check.status === "problem");
  if (report.model === null || memories === 0 || unusable || ownModel) return [];
  if (report.model !== model) {
    const dimensions =
      space === undefined || space.dimensions === report.dimensions
        ? ""
        : ` (${report.dimensions} dimensions, now ${space.dimensions})`;
    const detail = `domain "${name}" was embedded by ${report.model}, and ${model} is configured${dimensions}: ${follows}`;
    return [warning("domain", detail, `to keep its embeddings set OLLAMA_EMBEDDING_MODEL=${report.model}`)];
  }
  const same =
    space?.digest === digest && space.profile === profile && space.dimensions === report.dimensions;
  if (space === undefined || same) return [];
  const detail = `domain "${name}" was embedded by another version of ${model}: ${follows}`;
  return [warning("domain", detail, "leave a server running, it does that in the background")];
}

function checkFailed({ report, failureReason }: InspectedDomain): Check[] {
  if (report.failed === 0) return [];
  const reason = failureReason === undefined ? "" : ` (${failureReason})`;
  return [
    warning(
      "domain",
      `${formatMemoryCount(report.failed)} of domain "${report.name}" could not be embedded${reason} and can be found by words only`,
      "set the cause right, then call MemoryService.RetryFailed",
    ),
  ];
}

function checkOlder({ report }: InspectedDomain): Check[] {
  if (report.olderVersions === 0) return [];
  return [
    warning(
      "domain",
      `${formatMemoryCount(report.olderVersions)} of domain "${report.name}" have embeddings of an older version and can be found by words only`,
      "leave a server running, it embeds them again in the background",
    ),
  ];
}
