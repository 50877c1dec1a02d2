import { DuplicateContentError, type MemoryDraft } from "../../../memory/model/draft.ts";
import { ServiceError } from "../../../memory/model/errors.ts";
import type { Memory } from "../../../memory/model/memory.ts";
import type { Database, Queryable, QueryOptions } from "../../database/database.ts";
import { CONFLICT_RETRY_AFTER_MS } from "../../database/errors.ts";
import { deleteExpired, findContent, isContentTaken } from "./find-content.ts";
import { replaceChunks } from "./write-chunks.ts";
import {
  deleteMemory,
  insertMemory,
  type LockedMemory,
  lockMemory,
  overwriteMemory,
} from "./write-memory.ts";

type Decide = (current: Memory | undefined) => MemoryDraft | undefined;

/** If other writers keep taking the content, the change ends as a conflict after this many attempts. */
const MAX_ATTEMPTS = 5;

/** Implements MemoryStore.change: locks a memory, passes it to `decide` and writes the draft that it returns. */
export async function changeMemory(
  database: Database,
  domain: string,
  id: string,
  decide: Decide,
  options?: QueryOptions,
): Promise<Memory | undefined> {
  for (let attempt = 1; attempt <= MAX_ATTEMPTS; attempt++) {
    let content: string | undefined;
    try {
      return await database.transaction(async (transaction) => {
        return await changeLocked(transaction, domain, id, (current) => {
          const draft = decide(current);
          content = draft?.content;
          return draft;
        });
      }, options);
    } catch (error) {
      if (content === undefined || !isContentTaken(error, domain)) throw error;
      // The violation has aborted the transaction, so the other memory can only be found now.
      await evictExpiredDuplicate(database, domain, content);
    }
  }
  throw conflict(id);
}

async function changeLocked(
  transaction: Queryable,
  domain: string,
  id: string,
  decide: Decide,
): Promise<Memory | undefined> {
  const found = await lockMemory(transaction, domain, id);
  const current = found?.expired === false ? found.memory : undefined;
  const draft = decide(current);
  return draft === undefined ? current : await writeLocked(transaction, domain, draft, found);
}

/**
 * Writes a draft over the locked memory with its id, or inserts it if there is none.
 *
 * @throws DuplicateContentError, ServiceError CONFLICT; overwriting also throws the DatabaseError of `isContentTaken`.
 */
export async function writeLocked(
  transaction: Queryable,
  domain: string,
  draft: MemoryDraft,
  found: LockedMemory | undefined,
): Promise<Memory> {
  if (found?.expired === true) await deleteMemory(transaction, domain, draft.id);
  const written =
    found?.expired === false
      ? await overwriteMemory(transaction, domain, draft)
      : await insertUnique(transaction, domain, draft);
  if (draft.embedding !== "keep") await replaceChunks(transaction, domain, draft.id, draft.embedding);
  return written;
}

async function insertUnique(transaction: Queryable, domain: string, draft: MemoryDraft): Promise<Memory> {
  const inserted = await insertMemory(transaction, domain, draft);
  if (inserted !== undefined) return inserted;
  await evictExpiredDuplicate(transaction, domain, draft.content);
  const second = await insertMemory(transaction, domain, draft);
  if (second === undefined) throw conflict(draft.id);
  return second;
}

/**
 * Deletes the memory that has the same content if it has expired.
 *
 * @throws DuplicateContentError if it has not expired.
 */
export async function evictExpiredDuplicate(
  database: Queryable,
  domain: string,
  content: string,
): Promise<void> {
  const taken = await findContent(database, domain, content);
  if (taken === undefined) return;
  if (!taken.expired) throw new DuplicateContentError(taken.memory);
  await deleteExpired(database, domain, taken.memory.id);
}

function conflict(id: string): ServiceError {
  return new ServiceError("CONFLICT", `memory "${id}" is being stored by another call`, {
    retryAfterMs: CONFLICT_RETRY_AFTER_MS,
  });
}
