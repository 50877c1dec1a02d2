import type { StoreResult } from "../../../memory/model/draft.ts";
import { DuplicateContentError, type MemoryDraft, type StoreEntry } from "../../../memory/model/draft.ts";
import { ServiceError } from "../../../memory/model/errors.ts";
import type { Queryable } from "../../database/database.ts";
import { evictExpiredDuplicate, writeLocked } from "./change-memory.ts";
import { isContentTaken } from "./find-content.ts";
import { insertChunks, type MemoryEmbedding } from "./write-chunks.ts";
import { insertMemories, type LockedMemory, lockMemories } from "./write-memory.ts";

/** Rows of one insert. More rows are hardly faster, and `prepare` runs before each insert. */
const ROWS_PER_STATEMENT = 50;

export type EntryResult = StoreResult | ServiceError;

/**
 * Stores entries of one domain within a transaction, and returns a result for each, in order. Entries are written in
 * the order of their ids, so that two batches cannot deadlock. A domain that deduplicates is written by one batch at a
 * time, in the order of the entries, because the first of equal contents has to win.
 *
 * @param prepare Called with each draft just before it is written.
 */
export async function storeInDomain(
  transaction: Queryable,
  domain: string,
  entries: readonly StoreEntry[],
  prepare: (draft: MemoryDraft) => MemoryDraft,
): Promise<EntryResult[]> {
  const deduplicates = await lockContents(transaction, domain);
  const order = [...entries.keys()];
  const idOf = (index: number) => entries[index]?.draft.id ?? "";
  if (!deduplicates) order.sort((a, b) => (idOf(a) < idOf(b) ? -1 : 1));
  const ordered = order.flatMap((index) => entries[index] ?? []);

  const results = new Map<string, EntryResult>();
  const chunks: MemoryEmbedding[] = [];
  for (let first = 0; first < ordered.length; first += ROWS_PER_STATEMENT) {
    const drafts = ordered.slice(first, first + ROWS_PER_STATEMENT).map(({ draft }) => prepare(draft));
    for (const memory of await insertMemories(transaction, domain, drafts)) {
      results.set(memory.id, { memory, outcome: "created" });
    }
    chunks.push(...drafts.flatMap((draft) => (results.has(draft.id) ? furtherChunks(draft) : [])));
  }
  await insertChunks(transaction, domain, chunks);

  const left = ordered.filter(({ draft }) => !results.has(draft.id));
  if (left.length > 0) {
    const ids = left.map(({ draft }) => draft.id);
    const locked = new Map(
      (await lockMemories(transaction, domain, ids)).map((found) => [found.memory.id, found]),
    );
    for (const entry of left) {
      const { id } = entry.draft;
      results.set(id, await resolveEntry(transaction, entry, locked.get(id), { prepare, deduplicates }));
    }
  }
  return entries.map(({ draft }) => {
    const result = results.get(draft.id);
    if (result === undefined) throw new Error("an entry has no result");
    return result;
  });
}

/**
 * Returns whether the domain deduplicates, and if so, keeps other batches from writing to it until the transaction
 * ends.
 */
async function lockContents(transaction: Queryable, domain: string): Promise<boolean> {
  const rows = await transaction.query(
    {
      text: `select pg_advisory_xact_lock(hashtextextended('memory-service batch ' || name, 0))
        from memory_domains where name = $1 and deduplicate_content`,
    },
    [domain],
  );
  return rows.length > 0;
}

function furtherChunks({ id, embedding }: MemoryDraft): MemoryEmbedding[] {
  return embedding === undefined || embedding === "keep" || embedding.chunks.length < 2
    ? []
    : [{ id, embedding }];
}

/** Writes an entry whose id or content is taken. An error that concerns only this entry becomes its result. */
async function resolveEntry(
  transaction: Queryable,
  { domain, draft, resolveConflict }: StoreEntry,
  found: LockedMemory | undefined,
  options: { readonly prepare: (draft: MemoryDraft) => MemoryDraft; readonly deduplicates: boolean },
): Promise<EntryResult> {
  try {
    if (found?.expired !== false) {
      const memory = await writeLocked(transaction, domain, options.prepare(draft), found);
      return { memory, outcome: "created" };
    }
    const resolution = resolveConflict(found.memory);
    if (resolution.draft === undefined) return { memory: found.memory, outcome: resolution.outcome };
    const over = options.prepare(resolution.draft);
    const write = () => writeLocked(transaction, domain, over, found);
    const memory = options.deduplicates
      ? await writeUnique(transaction, domain, over.content, write)
      : await write();
    return { memory, outcome: resolution.outcome };
  } catch (error) {
    if (error instanceof DuplicateContentError) return { memory: error.memory, outcome: "duplicate" };
    if (error instanceof ServiceError && error.reason === "MEMORY_ALREADY_EXISTS") return error;
    throw error;
  }
}

/** Writes within a savepoint, because a violation would otherwise abort the whole transaction. */
async function writeUnique<T>(
  transaction: Queryable,
  domain: string,
  content: string,
  write: () => Promise<T>,
): Promise<T> {
  await transaction.execute("savepoint entry");
  try {
    return await write();
  } catch (error) {
    if (!isContentTaken(error, domain)) throw error;
    await transaction.execute("rollback to savepoint entry");
    await evictExpiredDuplicate(transaction, domain, content);
    return await write();
  } finally {
    // Fails if the transaction has failed.
    await transaction.execute("release savepoint entry").catch(() => {});
  }
}
