import type { StoreResult } from "../../../memory/model/draft.ts";
import { DuplicateContentError, type MemoryDraft, type StoreEntry } from "../../../memory/model/draft.ts";
import { ServiceError } from "../../../memory/model/errors.ts";
import type { Queryable } from "../../database/database.ts";
import { makeRoom, writeLocked } from "./change-memory.ts";
import { isContentTaken } from "./find-content.ts";
import { insertChunks, type MemoryEmbedding } from "./write-chunks.ts";
import { insertMemories, type LockedMemory, lockMemories } from "./write-memory.ts";

/** Rows of one insert. More are hardly faster, and `prepare` is asked before each insert. */
const ROWS_PER_STATEMENT = 50;

export type EntryResult = StoreResult | ServiceError;

/**
 * Inside a transaction: stores entries of one domain, and returns a result for each, in order. Ids come in their own
 * order to the database, so that two batches cannot wait for each other. Contents that must be unique cannot be in two
 * orders: there one batch at a time writes, in the order of its entries, where the first of equal contents wins.
 *
 * @param prepare sees each draft just before it is written
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
      results.set(id, await settleEntry(transaction, entry, locked.get(id), { prepare, deduplicates }));
    }
  }
  return entries.map(({ draft }) => {
    const result = results.get(draft.id);
    if (result === undefined) throw new Error("an entry has no result");
    return result;
  });
}

/** True if the domain keeps each content once: then no other batch writes to it until this transaction ends. */
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

/** The id is taken, or the content. What is wrong with this entry alone becomes its result. */
async function settleEntry(
  transaction: Queryable,
  { domain, draft, resolveConflict }: StoreEntry,
  found: LockedMemory | undefined,
  how: { readonly prepare: (draft: MemoryDraft) => MemoryDraft; readonly deduplicates: boolean },
): Promise<EntryResult> {
  try {
    if (found?.expired !== false) {
      const memory = await writeLocked(transaction, domain, how.prepare(draft), found);
      return { memory, outcome: "created" };
    }
    const settled = resolveConflict(found.memory);
    if (settled.draft === undefined) return { memory: found.memory, outcome: settled.outcome };
    const over = how.prepare(settled.draft);
    const write = () => writeLocked(transaction, domain, over, found);
    const memory = how.deduplicates
      ? await writeUnique(transaction, domain, over.content, write)
      : await write();
    return { memory, outcome: settled.outcome };
  } catch (error) {
    if (error instanceof DuplicateContentError) return { memory: error.memory, outcome: "duplicate" };
    if (error instanceof ServiceError && error.reason === "MEMORY_ALREADY_EXISTS") return error;
    throw error;
  }
}

/** A violation ends the transaction but for what came before the savepoint. */
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
    await makeRoom(transaction, domain, content);
    return await write();
  } finally {
    // Fails with the transaction, if that has failed.
    await transaction.execute("release savepoint entry").catch(() => {});
  }
}
