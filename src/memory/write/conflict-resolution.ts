import type { ConflictResolution, MemoryDraft } from "../model/draft.ts";
import { ServiceError } from "../model/errors.ts";
import type { Memory } from "../model/memory.ts";
import { differingFields, differingImportFields, type ImportFields } from "./diff-memory.ts";
import type { IfExists, StoreCommand } from "./store-command.ts";

/**
 * Decides what a Store does when its id is taken.
 *
 * @throws ServiceError MEMORY_ALREADY_EXISTS
 */
export function resolveStoreConflict(
  command: StoreCommand,
  draft: MemoryDraft,
  current: Memory,
): ConflictResolution {
  const differing = differingFields(current, command);
  // A ttl counts from the moment of storing, so replacing renews it.
  const renews = command.ifExists === "replace" && command.expiry.kind === "after";
  if (differing.length === 0 && !renews) return { outcome: "unchanged", draft: undefined };
  const keepsEmbedding = command.embedding === undefined;
  return resolveDifference(command.ifExists, draft, current, { differing, keepsEmbedding });
}

/**
 * Decides what an import does when the id of a record is taken.
 *
 * @throws ServiceError MEMORY_ALREADY_EXISTS
 */
export function resolveImportConflict(
  record: ImportFields,
  ifExists: IfExists,
  draft: MemoryDraft,
  current: Memory,
): ConflictResolution {
  const differing = differingImportFields(current, record);
  if (differing.length === 0) return { outcome: "unchanged", draft: undefined };
  const keepsEmbedding = draft.embedding === undefined;
  return resolveDifference(ifExists, draft, current, { differing, keepsEmbedding });
}

function resolveDifference(
  ifExists: IfExists,
  draft: MemoryDraft,
  current: Memory,
  { differing, keepsEmbedding }: { readonly differing: readonly string[]; readonly keepsEmbedding: boolean },
): ConflictResolution {
  if (ifExists === "keep") return { outcome: "kept", draft: undefined };
  if (ifExists === "fail") throw alreadyExists(current.domain, draft.id, differing);
  const isEmbedded = !differing.includes("content") && current.embedding.state === "ready";
  return {
    outcome: "replaced",
    draft:
      keepsEmbedding && isEmbedded ? { ...draft, embedding: "keep", chunkCount: current.chunkCount } : draft,
  };
}

function alreadyExists(domain: string, id: string, differing: readonly string[]): ServiceError {
  return new ServiceError(
    "MEMORY_ALREADY_EXISTS",
    `memory "${id}" exists in domain "${domain}" and differs in ${differing.join(", ")}`,
    { metadata: { domain, id, fields: differing.join(",") } },
  );
}
