import type { ContentEmbedding, MemoryDraft } from "../../../memory/model/draft.ts";
import type { Memory } from "../../../memory/model/memory.ts";
import type { Parameter, Queryable, QueryOptions } from "../../database/database.ts";
import { domainTables, isAlive } from "../domains/domain-tables.ts";
import { type MemoryRow, memoryColumns, memoryFromRow, metadataToStore } from "./memory-row.ts";

/**
 * Inserts the row of a memory without its chunks. Returns undefined if its id is taken or, in a domain that
 * deduplicates, its content.
 */
export async function insertMemory(
  database: Queryable,
  domain: string,
  draft: MemoryDraft,
  options?: QueryOptions,
): Promise<Memory | undefined> {
  const [inserted] = await insertMemories(database, domain, [draft], options);
  return inserted;
}

/**
 * Inserts the rows of several memories, in order, by one statement, and returns those that were inserted. 5,500
 * memories would exceed the number of parameters that PostgreSQL allows.
 */
export async function insertMemories(
  database: Queryable,
  domain: string,
  drafts: readonly MemoryDraft[],
  options?: QueryOptions,
): Promise<Memory[]> {
  const { memories } = domainTables(domain);
  const rows = await database.query<MemoryRow>(
    {
      ...(drafts.length === 1 ? { name: `insert_memory:${domain}` } : {}),
      writes: true,
      text: `insert into ${memories} as m (
          id, content, metadata, expires_at, ttl, chunk_count,
          embedding, embedding_state, embedding_version, embed_after, created_at, updated_at, version)
        values ${drafts.map((_, index) => insertedValues(index * INSERTED_PARAMETERS)).join(", ")}
        on conflict do nothing
        returning ${memoryColumns("m")}`,
    },
    drafts.flatMap(parametersOf),
    options,
  );
  const contents = new Map(drafts.map(({ id, content }) => [id, content]));
  return rows.map((row) => memoryFromRow(domain, row, contents.get(row.id) ?? ""));
}

const INSERTED_PARAMETERS = 12;

function insertedValues(n: number): string {
  return `(
    $${n + 1}::text, $${n + 2}::text, $${n + 3}::jsonb, ${expiresAt(n)}, ${ttl(n)}, $${n + 6}::integer,
    $${n + 7}::vector, ${embeddingState(n)}, $${n + 8}::integer, ${embedAfter(n)},
    ${createdAt(n)}, ${updatedAt(n)}, coalesce($${n + 12}::bigint, 1))`;
}

/**
 * Overwrites the row with the same id, without its chunks. Keeps the create time and increments the version unless the
 * draft preserves others. Does not write unchanged content, which would reindex its text.
 */
export async function overwriteMemory(
  database: Queryable,
  domain: string,
  draft: MemoryDraft,
): Promise<Memory> {
  const { memories } = domainTables(domain);
  const keepContent = draft.embedding === "keep";
  const keepExpiry = draft.keepExpiry === true;
  const parameters = parametersOf(draft);
  const [id, content, metadata, time, ttlOf, chunkCount, vector, embeddingVersion, lease] = parameters;
  const preserved = parameters.slice(9);
  /** The number of the parameter before the preserved fields. */
  const before = keepContent ? 5 : 9;
  const rows = await database.query<MemoryRow>(
    {
      name: `${keepContent ? "change" : "overwrite"}_memory:${domain}`,
      writes: true,
      text: `update ${memories} as m set
          metadata = $2::jsonb,
          expires_at = case when $3 then m.expires_at else ${expiresAt()} end,
          ttl = case when $3 then m.ttl else ${ttl()} end,
          ${
            keepContent
              ? ""
              : `content = $13, chunk_count = $6, embedding = $7::vector, embedding_state = ${embeddingState()},
                embedding_version = $8::integer, embedding_error = null, embedding_attempts = 0,
                embed_after = ${embedAfter()},`
          }
          created_at = coalesce(memory_time($${before + 1}::bigint), m.created_at),
          updated_at = coalesce(memory_time($${before + 2}::bigint), now()),
          version = coalesce($${before + 3}::bigint, m.version + 1)
        where m.id = $1
        returning ${memoryColumns("m")}`,
    },
    keepContent
      ? [id, metadata, keepExpiry, time, ttlOf, ...preserved]
      : [
          id,
          metadata,
          keepExpiry,
          time,
          ttlOf,
          chunkCount,
          vector,
          embeddingVersion,
          lease,
          ...preserved,
          content,
        ],
  );
  const row = rows[0];
  if (row === undefined) throw new Error(`memory ${draft.id} disappeared while its row was locked`);
  return memoryFromRow(domain, row, draft.content);
}

/** A memory whose row is locked. The id of an expired memory is free, but its row has to be deleted first. */
export interface LockedMemory {
  readonly memory: Memory;
  readonly expired: boolean;
}

/** Locks and reads one memory. */
export async function lockMemory(
  database: Queryable,
  domain: string,
  id: string,
): Promise<LockedMemory | undefined> {
  const [locked] = await lockMemories(database, domain, [id]);
  return locked;
}

/** Locks and reads the existing memories, ordered by id, so that two callers cannot deadlock. */
export async function lockMemories(
  database: Queryable,
  domain: string,
  ids: readonly string[],
): Promise<LockedMemory[]> {
  const { memories } = domainTables(domain);
  const rows = await database.query<MemoryRow & { content: string; alive: boolean }>(
    {
      name: `lock_memories:${domain}`,
      writes: true,
      text: `select ${memoryColumns("m")}, m.content, ${isAlive("m")} as alive
        from ${memories} m where m.id = any($1::text[]) order by m.id for update`,
    },
    [ids],
  );
  return rows.map((row) => ({ memory: memoryFromRow(domain, row, row.content), expired: !row.alive }));
}

/** Deletes one memory with its chunks, whether it has expired or not. */
export async function deleteMemory(database: Queryable, domain: string, id: string): Promise<void> {
  const { memories } = domainTables(domain);
  await database.query(
    { name: `delete_memory:${domain}`, writes: true, text: `delete from ${memories} where id = $1` },
    [id],
  );
}

// SQL values of a draft, from parameters in the order of `parametersOf`; `n` is the number of parameters before them.
const expiresAt = (n = 0) =>
  `coalesce(memory_time($${n + 4}::bigint), now() + $${n + 5}::bigint * interval '1 microsecond')`;
const ttl = (n = 0) => `$${n + 5}::bigint * interval '1 microsecond'`;
const embeddingState = (n = 0) => `case when $${n + 7}::vector is null then 'pending' else 'ready' end`;
const createdAt = (n = 0) => `coalesce(memory_time($${n + 10}::bigint), now())`;
const updatedAt = (n = 0) => `coalesce(memory_time($${n + 11}::bigint), now())`;
const embedAfter = (n = 0) => `now() + $${n + 9}::float8 * interval '1 millisecond'`;

function parametersOf(draft: MemoryDraft) {
  const embedding: ContentEmbedding | undefined = draft.embedding === "keep" ? undefined : draft.embedding;
  return [
    draft.id,
    draft.content,
    JSON.stringify(metadataToStore(draft)),
    draft.expiry.kind === "at" ? draft.expiry.time : null,
    draft.expiry.kind === "after" ? draft.expiry.ttl : null,
    draft.chunkCount,
    embedding?.chunks[0]?.vector ?? null,
    embedding?.version ?? null,
    draft.leaseMs,
    draft.preserved?.createTime ?? null,
    draft.preserved?.updateTime ?? null,
    draft.preserved?.version ?? null,
  ] as const satisfies readonly Parameter[];
}
