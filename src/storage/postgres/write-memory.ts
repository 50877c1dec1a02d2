import type { Memory } from "../../memory/memory.ts";
import type { Parameter, Queryable, QueryOptions } from "../database/database.ts";
import type { ContentEmbedding, MemoryDraft } from "../memory-repository.ts";
import { domainTables, isAlive } from "./domain-tables.ts";
import { type MemoryRow, memoryColumns, memoryFromRow, metadataToStore } from "./memory-row.ts";

/**
 * Inserts the row of a memory (its chunks are another statement); undefined if its id is taken or, in a domain that
 * deduplicates, its content.
 */
export async function insertMemory(
  database: Queryable,
  domain: string,
  draft: MemoryDraft,
  options?: QueryOptions,
): Promise<Memory | undefined> {
  const { memories } = domainTables(domain);
  const rows = await database.query<MemoryRow>(
    {
      name: `insert_memory:${domain}`,
      text: `insert into ${memories} as m (
          id, content, metadata, expires_at, ttl, chunk_count,
          embedding, embedding_state, embedding_version, embed_after)
        values (
          $1, $2, $3::jsonb, ${expiresAt}, ${ttl}, $6,
          $7::vector, ${embeddingState}, $8::integer, now() + $9::float8 * interval '1 millisecond')
        on conflict do nothing
        returning ${memoryColumns("m")}`,
    },
    parametersOf(draft),
    options,
  );
  return rows[0] && memoryFromRow(domain, rows[0], draft.content);
}

/**
 * Writes a draft over the row of the same id: create time stays, the version grows. Its chunks are another statement.
 * Content that stays is not written: its words would be indexed anew.
 */
export async function overwriteMemory(
  database: Queryable,
  domain: string,
  draft: MemoryDraft,
): Promise<Memory> {
  const { memories } = domainTables(domain);
  const keepContent = draft.embedding === "keep";
  const keepExpiry = draft.keepExpiry === true;
  const [id, content, metadata, time, ttlOf, ...embedding] = parametersOf(draft);
  const rows = await database.query<MemoryRow>(
    {
      name: `${keepContent ? "change" : "overwrite"}_memory:${domain}`,
      text: `update ${memories} as m set
          metadata = $2::jsonb,
          expires_at = case when $3 then m.expires_at else ${expiresAt} end,
          ttl = case when $3 then m.ttl else ${ttl} end,
          ${
            keepContent
              ? ""
              : `content = $10, chunk_count = $6, embedding = $7::vector, embedding_state = ${embeddingState},
                embedding_version = $8::integer, embedding_error = null, embedding_attempts = 0,
                embed_after = now() + $9::float8 * interval '1 millisecond',`
          }
          updated_at = now(), version = m.version + 1
        where m.id = $1
        returning ${memoryColumns("m")}`,
    },
    [id, metadata, keepExpiry, time, ttlOf, ...(keepContent ? [] : [...embedding, content])],
  );
  const row = rows[0];
  if (row === undefined) throw new Error(`memory ${draft.id} vanished while its row was locked`);
  return memoryFromRow(domain, row, draft.content);
}

/** Locks and reads one memory. `expired` rows are shown too: their id is free, but the row is in the way. */
export async function lockMemory(
  database: Queryable,
  domain: string,
  id: string,
): Promise<{ memory: Memory; expired: boolean } | undefined> {
  const { memories } = domainTables(domain);
  const rows = await database.query<MemoryRow & { content: string; alive: boolean }>(
    {
      name: `lock_memory:${domain}`,
      text: `select ${memoryColumns("m")}, m.content, ${isAlive("m")} as alive
        from ${memories} m where m.id = $1 for update`,
    },
    [id],
  );
  return rows[0] && { memory: memoryFromRow(domain, rows[0], rows[0].content), expired: !rows[0].alive };
}

/** Deletes one memory with its chunks, whether it has expired or not. */
export async function deleteMemory(database: Queryable, domain: string, id: string): Promise<void> {
  const { memories } = domainTables(domain);
  await database.query({ name: `delete_memory:${domain}`, text: `delete from ${memories} where id = $1` }, [
    id,
  ]);
}

const expiresAt = "coalesce(memory_time($4::bigint), now() + $5::bigint * interval '1 microsecond')";
const ttl = "$5::bigint * interval '1 microsecond'";
const embeddingState = "case when $7::vector is null then 'pending' else 'ready' end";

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
  ] as const satisfies readonly Parameter[];
}
