import { setTimeout as sleep } from "node:timers/promises";
import { StartupError } from "../../memory/model/errors.ts";
import type { Queryable } from "../../storage/database/database.ts";
import { SQLSTATE, sqlstateOf } from "../../storage/database/errors.ts";
import type { PlannedTable } from "./adoption-plan.ts";
import { type DomainSchema, readDomainSchema } from "./domain-schema.ts";
import { normalizedMetadata, quoteIdentifier } from "./legacy-tables.ts";

/** How a table is taken over. */
export interface AdoptOptions {
  /** The embedding version that the old embeddings are said to be of; undefined: all are made again. */
  readonly keepAsVersion: number | undefined;
  /** Longest text, in UTF-16 code units, that is one chunk. */
  readonly maxChunkLength: number;
  readonly countChunks: (content: string) => number;
  /** Whether indexes can be built while others write: not on the embedded engine. */
  readonly concurrently: boolean;
  readonly signal: AbortSignal;
  /** Before each step, and after each batch of rows. */
  readonly onStep?: (step: string, rows: number) => void;
}

/** What one run did; what was done before an interruption is not in it. */
export interface AdoptedTable {
  readonly domain: string;
  readonly memories: number;
  /** Old embeddings that were kept, at unit length. */
  readonly normalised: number;
  /** To be embedded in the background. */
  readonly pending: number;
  readonly changedMetadata: number;
}

/** Rows that are written in one statement: others wait for those at most. */
const BATCH = 200;
/** How long a statement may wait for a lock: who comes after it waits as long. */
const LOCK_TIMEOUT_MS = 2_000;
const LOCK_TRIES = 60;
const LOCK_PAUSE_MS = 500;

/**
 * Makes a domain of a table of the old version, in place. Every step sees whether it is needed: after any interruption
 * it is simply done again. Nothing holds a lock that others wait for longer than a moment: columns come with constant
 * defaults, rows are written in small batches, constraints are validated and indexes built while others read and write.
 * The domain is in the catalogue, and so known to servers, when all is done.
 *
 * @param session whose statements have no time limit.
 */
export async function adoptTable(
  session: Queryable,
  { old, domain }: PlannedTable,
  options: AdoptOptions,
): Promise<AdoptedTable> {
  const { signal, onStep } = options;
  const name = `${domain}_memories`;
  const table = quoteIdentifier(name);
  const begin = (step: string) => {
    signal.throwIfAborted();
    onStep?.(step, 0);
  };
  const alter = async (script: string) => await withoutLongLock(session, script, signal);

  if (old.table !== name) {
    begin("rename");
    await alter(`alter table ${quoteIdentifier(old.table)} rename to ${table}`);
  }
  const design = await readDomainSchema(session, domain, old.dimensions);

  begin("add columns");
  await alter(`alter table ${table}
    ${[
      ...design.columns.map(
        (column) => `add column if not exists ${quoteIdentifier(column.name)} ${column.definition}`,
      ),
      ...design.storage,
    ].join(",\n")}`);
  await renamePrimaryKey(session, name, alter);
  for (const trigger of design.triggers) await alter(trigger);
  await addChecks(session, table, design, alter);

  begin("fill columns");
  const filled = await fillColumns(session, table, options);

  begin("validate constraints");
  await validateChecks(session, table);
  for (const column of ["created_at", "updated_at"]) await setNotNull(session, table, column, alter);

  await renameConflictingIndexes(session, name, design, alter);
  for (const index of design.indexes) {
    begin(`build ${index.name}`);
    await buildIndex(session, index, options, alter);
  }

  begin("drop old indexes");
  await dropOldIndexes(session, name, design, options);
  await session.execute(`analyze ${table}`);
  begin("register");
  await register(session, domain, old.dimensions, options.keepAsVersion, signal);
  return { domain, ...filled };
}

/** Tries again rather than have everybody queue behind a statement that itself waits. */
async function withoutLongLock(session: Queryable, script: string, signal: AbortSignal): Promise<void> {
  for (let tries = 1; ; tries++) {
    try {
      await session.execute(`set lock_timeout = ${LOCK_TIMEOUT_MS}`);
      await session.execute(script);
      return;
    } catch (error) {
      await session.execute("rollback").catch(() => {});
      if (sqlstateOf(error) !== SQLSTATE.lockNotAvailable) throw error;
      if (tries >= LOCK_TRIES) {
        throw new StartupError("a table is locked by somebody else all the time", {
          remedy: "end the long transactions (pg_stat_activity names them), then run adopt again",
          cause: error,
        });
      }
      await sleep(LOCK_PAUSE_MS, undefined, { signal });
    } finally {
      await session.execute("set lock_timeout = 0");
    }
  }
}

async function renamePrimaryKey(
  session: Queryable,
  name: string,
  alter: (script: string) => Promise<void>,
): Promise<void> {
  const [key] = await session.query<{ name: string }>(
    {
      text: `select conname::text as name from pg_constraint
        where conrelid = to_regclass($1) and contype = 'p'`,
    },
    [quoteIdentifier(name)],
  );
  const wanted = `${name}_pkey`;
  if (key === undefined || key.name === wanted) return;
  await alter(
    `alter table ${quoteIdentifier(name)} rename constraint ${quoteIdentifier(key.name)} to ${quoteIdentifier(wanted)}`,
  );
}

/** Checked for new rows at once, for the others later. */
async function addChecks(
  session: Queryable,
  table: string,
  design: DomainSchema,
  alter: (script: string) => Promise<void>,
): Promise<void> {
  const there = await session.query<{ definition: string }>(
    {
      text: `select pg_get_constraintdef(oid) as definition from pg_constraint
        where conrelid = to_regclass($1) and contype = 'c'`,
    },
    [table],
  );
  const known = new Set(there.map(({ definition }) => definition.replace(/ NOT VALID$/, "")));
  const missing = design.checks.filter((check) => !known.has(check));
  if (missing.length === 0) return;
  await alter(`alter table ${table} ${missing.map((check) => `add ${check} not valid`).join(", ")}`);
}

async function validateChecks(session: Queryable, table: string): Promise<void> {
  const rows = await session.query<{ name: string }>(
    {
      text: `select conname::text as name from pg_constraint
        where conrelid = to_regclass($1) and contype = 'c' and not convalidated`,
    },
    [table],
  );
  for (const { name } of rows) {
    await session.execute(`alter table ${table} validate constraint ${quoteIdentifier(name)}`);
  }
}

/** By a constraint that is validated first: `set not null` alone reads the table while everybody waits. */
async function setNotNull(
  session: Queryable,
  table: string,
  column: string,
  alter: (script: string) => Promise<void>,
): Promise<void> {
  const [row] = await session.query<{ done: boolean }>(
    { text: "select attnotnull as done from pg_attribute where attrelid = to_regclass($1) and attname = $2" },
    [table, column],
  );
  if (row?.done === true) return;
  const constraint = quoteIdentifier(`adopted_${column}`);
  await alter(`alter table ${table} drop constraint if exists ${constraint}`);
  await alter(
    `alter table ${table} add constraint ${constraint} check (${quoteIdentifier(column)} is not null) not valid`,
  );
  // The server may have been stopped between two batches, or somebody may have written null since.
  await session.execute(`update ${table} set created_at = coalesce(created_at, updated_at, now()),
    updated_at = coalesce(updated_at, created_at, now()) where ${quoteIdentifier(column)} is null`);
  await session.execute(`alter table ${table} validate constraint ${constraint}`);
  await alter(
    `alter table ${table} alter column ${quoteIdentifier(column)} set not null, drop constraint ${constraint}`,
  );
}

/** Hash, words, number of chunks, and what becomes of the embedding; rows that have a hash are done. */
async function fillColumns(
  session: Queryable,
  table: string,
  { keepAsVersion, maxChunkLength, countChunks, signal, onStep }: AdoptOptions,
): Promise<Omit<AdoptedTable, "domain">> {
  const sums = { memories: 0, normalised: 0, pending: 0, changedMetadata: 0 };
  for (let after = ""; ; ) {
    signal.throwIfAborted();
    const batch = await session.query<{ id: string; content: string | null }>(
      {
        text: `select id, case when char_length(content) * 2 > $2 then content end as content
          from ${table} where id > $1 order by id limit ${BATCH}`,
      },
      [after, maxChunkLength],
    );
    const last = batch.at(-1);
    if (last === undefined) return sums;
    const rows = await session.query<{ normalised: boolean; changed: boolean }>(
      {
        // Writing the content fires the trigger.
        text: `update ${table} m set
            content = m.content,
            metadata = ${normalizedMetadata("m")},
            chunk_count = b.chunks,
            created_at = coalesce(m.created_at, m.updated_at, now()),
            updated_at = coalesce(m.updated_at, m.created_at, now()),
            embedding = case when ${keepsEmbedding} then l2_normalize(m.embedding) end,
            embedding_state = case when ${keepsEmbedding} then 'ready' else 'pending' end,
            embedding_version = case when ${keepsEmbedding} then $3::integer end
          from unnest($1::text[], $2::integer[]) as b (id, chunks), ${table} before
          where m.id = b.id and before.id = b.id and m.content_hash is null
          returning m.embedding is not null as normalised, m.metadata <> before.metadata as changed`,
      },
      [
        batch.map(({ id }) => id),
        batch.map(({ content }) => (content === null ? 1 : countChunks(content))),
        keepAsVersion ?? null,
      ],
    );
    sums.memories += rows.length;
    for (const { normalised, changed } of rows) {
      if (normalised) sums.normalised++;
      else sums.pending++;
      if (changed) sums.changedMetadata++;
    }
    onStep?.("fill columns", rows.length);
    after = last.id;
  }
}

/** One of zeros says nothing; of a text of several chunks, one says too little. */
const keepsEmbedding = "$3::integer is not null and vector_norm(m.embedding) > 0 and b.chunks = 1";

/** Indexes that are not ours under names that are ours, and the old ones that would hide behind an equal name. */
async function renameConflictingIndexes(
  session: Queryable,
  name: string,
  design: DomainSchema,
  alter: (script: string) => Promise<void>,
): Promise<void> {
  for (const index of await readIndexes(session, name)) {
    const ours = design.indexes.find((one) => one.name === index.name);
    if (ours === undefined || ours.statement === index.statement) continue;
    await alter(
      `alter index ${quoteIdentifier(index.name)} rename to ${quoteIdentifier(`${CONFLICTING_INDEX_PREFIX}${index.oid}`)}`,
    );
  }
}

const CONFLICTING_INDEX_PREFIX = "adopt_old_index_";

interface TableIndex {
  readonly [column: string]: unknown;
  readonly oid: bigint;
  readonly name: string;
  readonly statement: string;
  readonly valid: boolean;
}

async function readIndexes(session: Queryable, name: string): Promise<TableIndex[]> {
  return await session.query<TableIndex>(
    {
      text: `select i.indexrelid::bigint as oid, c.relname::text as name, pg_get_indexdef(i.indexrelid) as statement,
          i.indisvalid as valid
        from pg_index i join pg_class c on c.oid = i.indexrelid
        where i.indrelid = to_regclass($1) and not i.indisprimary order by c.relname`,
    },
    [quoteIdentifier(name)],
  );
}

async function buildIndex(
  session: Queryable,
  { name, statement, comment }: DomainSchema["indexes"][number],
  { concurrently }: AdoptOptions,
  alter: (script: string) => Promise<void>,
): Promise<void> {
  const [there] = await session.query<{ valid: boolean }>(
    { text: "select indisvalid as valid from pg_index where indexrelid = to_regclass($1)" },
    [quoteIdentifier(name)],
  );
  const how = concurrently ? "concurrently" : "";
  if (there?.valid === false) await session.execute(`drop index ${how} ${quoteIdentifier(name)}`);
  if (there?.valid !== true) {
    await session.execute(statement.replace(/^CREATE (UNIQUE )?INDEX/, `create $1index ${how}`));
  }
  if (comment !== undefined) {
    await alter(`comment on index ${quoteIdentifier(name)} is '${comment.replaceAll("'", "''")}'`);
  }
}

/** The catalogue's row first, at the newest revision: the function then finds nothing to add to the rows. */
async function register(
  session: Queryable,
  domain: string,
  dimensions: number | undefined,
  embeddingVersion: number | undefined,
  signal: AbortSignal,
): Promise<void> {
  const values = `'${domain}', ${dimensions ?? "null"}, ${embeddingVersion ?? "null"}, memory_tables_revision()`;
  await withoutLongLock(
    session,
    `begin;
    select lock_memory_domain('${domain}');
    insert into memory_domains (name, dimensions, embedding_version, tables_revision) values (${values})
      on conflict (name) do nothing;
    select create_domain_memories_table('${domain}', ${dimensions ?? "null"});
    select comment_domain_tables('${domain}');
    commit`,
    signal,
  );
}

/** What the old version searched by. Indexes that somebody else made stay. */
async function dropOldIndexes(
  session: Queryable,
  name: string,
  design: DomainSchema,
  { concurrently }: AdoptOptions,
): Promise<void> {
  const ours = new Set(design.indexes.map((index) => index.name));
  for (const index of await readIndexes(session, name)) {
    if (ours.has(index.name)) continue;
    const definition = index.statement.slice(index.statement.indexOf(" USING ") + 1);
    const isOld =
      index.name.startsWith(CONFLICTING_INDEX_PREFIX) ||
      OLD_INDEXES.some((pattern) => pattern.test(definition));
    if (isOld)
      await session.execute(
        `drop index ${concurrently ? "concurrently" : ""} ${quoteIdentifier(index.name)}`,
      );
  }
}

const OLD_INDEXES = [
  /^USING gin \(metadata\)$/,
  /^USING btree \(updated_at DESC\)$/,
  /^USING gin \(to_tsvector\('english'::regconfig, content\)\)$/,
  /^USING ivfflat \(embedding /,
];
