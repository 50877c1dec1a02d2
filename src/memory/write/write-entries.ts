import { StaleDomainError } from "../model/domain.ts";
import {
  type ConflictResolution,
  DuplicateContentError,
  type StoreEntry,
  type StoreResult,
} from "../model/draft.ts";
import { ServiceError } from "../model/errors.ts";
import type { MemoryStore, StoreManyOptions } from "../model/memory-store.ts";

/** Concurrent writes may conflict several times in a row. The bound keeps a defect from looping. */
const MAX_ATTEMPTS = 5;

/**
 * Writes entries in one transaction, and retries after a conflict with other writers. A single entry is usually one
 * statement, which saves the round trips of an explicit transaction. Returns a result for each entry, in order.
 *
 * @throws ServiceError with `atomic`, the error of the first entry that fails; StaleDomainError and DOMAIN_NOT_FOUND,
 * after which nothing is stored.
 */
export async function writeEntries(
  store: MemoryStore,
  entries: readonly StoreEntry[],
  options: StoreManyOptions,
  signal: AbortSignal,
): Promise<(StoreResult | ServiceError)[]> {
  const [only] = entries;
  for (let attempt = 1; ; attempt++) {
    try {
      if (only === undefined) return [];
      if (entries.length > 1) return await store.storeMany(entries, options, signal);
      return [await writeEntry(store, only, options, signal)];
    } catch (error) {
      const isConflict = error instanceof ServiceError && error.reason === "CONFLICT";
      if (!isConflict || error instanceof StaleDomainError || attempt >= MAX_ATTEMPTS) throw error;
    }
  }
}

async function writeEntry(
  store: MemoryStore,
  entry: StoreEntry,
  { atomic }: StoreManyOptions,
  signal: AbortSignal,
): Promise<StoreResult | ServiceError> {
  try {
    const created = await store.insert(entry.domain, entry.draft, signal);
    if (created !== undefined) return { memory: created, outcome: "created" };
    return await writeOverExisting(store, entry, signal);
  } catch (error) {
    if (error instanceof DuplicateContentError) return { memory: error.memory, outcome: "duplicate" };
    const concernsEntry = error instanceof ServiceError && error.reason === "MEMORY_ALREADY_EXISTS";
    if (concernsEntry && !atomic) return error;
    throw error;
  }
}

/** The id or the content is taken: compares the entry with the existing memory under its lock. */
async function writeOverExisting(
  store: MemoryStore,
  { domain, draft, resolveConflict }: StoreEntry,
  signal: AbortSignal,
): Promise<StoreResult> {
  let resolution: ConflictResolution = { outcome: "created", draft };
  const memory = await store.change(
    domain,
    draft.id,
    (current) => {
      resolution = current === undefined ? { outcome: "created", draft } : resolveConflict(current);
      return resolution.draft;
    },
    signal,
  );
  if (memory === undefined) throw new Error("a change that writes returned nothing");
  return { memory, outcome: resolution.outcome };
}
