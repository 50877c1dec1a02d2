import type { ContentEmbedding } from "../../../memory/model/draft.ts";
import type { PendingMemory } from "../../../memory/model/embedding-queue.ts";
import type { Queryable } from "../../database/database.ts";
import { domainTables, isAlive } from "../domains/domain-tables.ts";

/** Size of the contents leased at once. 64 contents of the maximum length would take 64 MiB. */
const LEASE_BYTES = 1024 * 1024;

/**
 * Leases memories that have no embedding, or one of another version than the domain's. Leases none if the domain no
 * longer uses `version`, because a server with the other model embeds them. The lease raises `embed_after`; rows are
 * locked only during this statement, so that writers never wait for the embedder.
 */
export async function leasePending(
  database: Queryable,
  domain: string,
  version: number,
  limit: number,
  leaseMs: number,
): Promise<PendingMemory[]> {
  const { memories } = domainTables(domain);
  const isUsed = "exists (select from memory_domains d where d.name = $5 and d.embedding_version = $1)";
  const rows = await database.query<{
    id: string;
    content: string;
    content_hash: Uint8Array;
    embedding_attempts: number;
  }>(
    {
      name: `lease_pending:${domain}`,
      // Each condition stands beside its "for update", so that a row that was just leased is checked again.
      writes: true,
      text: `with pending as (
          select id, octet_length(content) as bytes from ${memories} m
          where embedding_state = 'pending' and embed_after <= now() and ${isAlive("m")} and ${isUsed}
          order by embed_after
          limit $2
          for update skip locked
        ), outdated as (
          select id, octet_length(content) as bytes from ${memories} m
          where (embedding_version < $1 or embedding_version > $1)
            and embedding_state = 'ready' and embed_after <= now() and ${isAlive("m")} and ${isUsed}
          limit $2
          for update skip locked
        ), found as (
          select id, bytes from pending union all select id, bytes from outdated limit $2
        ), measured as (
          select id, sum(bytes) over (rows between unbounded preceding and 1 preceding) as bytes_before from found
        ), due as (
          select id from measured where bytes_before is null or bytes_before < $4::bigint
        )
        update ${memories} m set
          embed_after = now() + $3::float8 * interval '1 millisecond',
          embedding_attempts = m.embedding_attempts + 1
        from due where m.id = due.id
        returning m.id, m.content, m.content_hash, m.embedding_attempts`,
    },
    [version, limit, leaseMs, LEASE_BYTES, domain],
  );
  return rows.map((row) => ({
    id: row.id,
    content: row.content,
    contentHash: row.content_hash,
    attempts: row.embedding_attempts,
  }));
}

/**
 * Writes the embedding of chunk 0, and returns whether it was written. Does not write it if the content has changed, if
 * the memory was embedded in the meantime (perhaps by a caller-supplied embedding) or if the domain uses another
 * version.
 */
export async function writeEmbedding(
  database: Queryable,
  domain: string,
  memory: Pick<PendingMemory, "id" | "contentHash">,
  embedding: ContentEmbedding,
): Promise<boolean> {
  const [first] = embedding.chunks;
  if (first === undefined) throw new Error("an embedding without chunks");
  const { memories } = domainTables(domain);
  const rows = await database.query(
    {
      name: `write_embedding:${domain}`,
      writes: true,
      text: `update ${memories} set
          embedding = $3::vector, embedding_state = 'ready', embedding_version = $4, embedding_error = null,
          embedding_attempts = 0, embed_after = now(), chunk_count = $5
        where id = $1 and content_hash = $2
          and (embedding_state <> 'ready' or embedding_version is distinct from $4)
          and coalesce((select d.embedding_version from memory_domains d where d.name = $6), $4) = $4
        returning id`,
    },
    [memory.id, memory.contentHash, first.vector, embedding.version, embedding.chunks.length, domain],
  );
  return rows.length === 1;
}

/** Makes memories due after a delay. Without `countAttempt` the attempt that the lease counted is subtracted. */
export async function postponeEmbedding(
  database: Queryable,
  domain: string,
  ids: readonly string[],
  delayMs: number,
  countAttempt: boolean,
): Promise<void> {
  const { memories } = domainTables(domain);
  await database.query(
    {
      name: `postpone_embedding:${domain}`,
      writes: true,
      text: `update ${memories} set
          embed_after = now() + $2::float8 * interval '1 millisecond',
          embedding_attempts = greatest(0, embedding_attempts - case when $3 then 0 else 1 end)
        where id = any($1::text[])`,
    },
    [ids, delayMs, countAttempt],
  );
}

/**
 * Marks an embedding as failed, and returns whether it was marked. Does not mark it if the content has changed, or if
 * the memory has received an embedding of the domain's version in the meantime.
 */
export async function writeFailure(
  database: Queryable,
  domain: string,
  memory: Pick<PendingMemory, "id" | "contentHash">,
  reason: string,
): Promise<boolean> {
  const { memories } = domainTables(domain);
  const rows = await database.query(
    {
      name: `fail_embedding:${domain}`,
      writes: true,
      text: `update ${memories} set
          embedding = null, embedding_state = 'failed', embedding_version = null, embedding_error = $3
        where id = $1 and content_hash = $2
          and (embedding_state <> 'ready' or embedding_version is distinct from
            (select d.embedding_version from memory_domains d where d.name = $4))
        returning id`,
    },
    [memory.id, memory.contentHash, reason, domain],
  );
  return rows.length === 1;
}
