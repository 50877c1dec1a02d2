import {
  DEFAULT_DOMAIN_SETTINGS,
  type DomainChanges,
  type DomainRecord,
  type EmbeddingVersionRecord,
} from "../../../memory/model/domain.ts";
import type { CreateDomainOptions } from "../../../memory/model/domain-store.ts";
import { type EmbeddingSpace, SAME_ENGINE_SIMILARITY } from "../../../memory/model/embedder.ts";
import { ServiceError } from "../../../memory/model/errors.ts";
import type { Database, Parameter, Queryable, QueryOptions, Row } from "../../database/database.ts";

interface DomainRow extends Row {
  readonly id: bigint;
  readonly name: string;
  readonly created_us: bigint;
  readonly description: string;
  readonly dimensions: number | null;
  readonly embedding_version: number | null;
  readonly text_search_config: string;
  readonly embedding_model: string | null;
  readonly requested_dimensions: number | null;
  readonly deduplicate_content: boolean;
}

const domainColumns = `id, name, memory_microseconds(created_at) as created_us, description, dimensions,
  embedding_version, text_search_config, embedding_model, requested_dimensions, deduplicate_content`;

export async function selectDomains(database: Queryable, options?: QueryOptions): Promise<DomainRecord[]> {
  const rows = await database.query<DomainRow>(
    { name: "select_domains", text: `select ${domainColumns} from memory_domains order by name` },
    [],
    options,
  );
  return rows.map(domainFromRow);
}

export async function selectDomain(
  database: Queryable,
  name: string,
  options?: QueryOptions,
): Promise<DomainRecord | undefined> {
  const rows = await database.query<DomainRow>(
    { name: "select_domain", text: `select ${domainColumns} from memory_domains where name = $1` },
    [name],
    options,
  );
  return rows[0] && domainFromRow(rows[0]);
}

/**
 * Creates the domain within a transaction, unless it exists, and returns whether it was created. Creates or updates its
 * tables in any case.
 *
 * @throws ServiceError DOMAIN_LIMIT_REACHED
 */
export async function createDomain(
  transaction: Queryable,
  name: string,
  dimensions: number | undefined,
  options: CreateDomainOptions = {},
): Promise<boolean> {
  const { settings = DEFAULT_DOMAIN_SETTINGS, maxDomains } = options;
  if (maxDomains !== undefined) await lockCatalogue(transaction);
  // The function that creates the tables takes this lock first. Inserting the row first would lock in the opposite
  // order.
  await transaction.query({ text: "select lock_memory_domain($1)" }, [name]);
  const created = await transaction.query(
    {
      writes: true,
      text: `insert into memory_domains (
          name, dimensions, description, text_search_config, embedding_model, requested_dimensions,
          deduplicate_content)
        select $1, $2::integer, $3, $4, $5, $6::integer, $7
        where $8::integer is null or (select count(*) from memory_domains) < $8::integer
        on conflict (name) do nothing
        returning name`,
    },
    [
      name,
      dimensions ?? null,
      settings.description,
      settings.textSearchConfig,
      settings.embeddingModel ?? null,
      settings.requestedDimensions ?? null,
      settings.deduplicateContent,
      maxDomains ?? null,
    ],
  );
  if (created.length === 0 && (await selectDomain(transaction, name)) === undefined) {
    throw new ServiceError(
      "DOMAIN_LIMIT_REACHED",
      `the maximum of ${maxDomains} domains is reached; delete a domain or raise MEMORY_MAX_DOMAINS`,
      {
        metadata: { domain: name, max_domains: String(maxDomains) },
      },
    );
  }
  await transaction.query({ writes: true, text: "select create_domain_memories_table($1, $2::integer)" }, [
    name,
    dimensions ?? null,
  ]);
  return created.length === 1;
}

/** Ensures that only one transaction at a time counts the domains and creates another. */
async function lockCatalogue(transaction: Queryable): Promise<void> {
  await transaction.query({
    text: "select pg_advisory_xact_lock(hashtextextended('memory-service domains', 0))",
  });
}

/** Reads up to `limit` domains by name, starting after the name `after`. */
export async function selectDomainPage(
  database: Queryable,
  after: string,
  limit: number,
  options?: QueryOptions,
): Promise<DomainRecord[]> {
  const rows = await database.query<DomainRow>(
    {
      name: "select_domain_page",
      // Compares bytes, as other code does, regardless of the collation of the database.
      text: `select ${domainColumns} from memory_domains where name collate "C" > $1
        order by name collate "C" limit $2`,
    },
    [after, limit],
    options,
  );
  return rows.map(domainFromRow);
}

/**
 * Changes settings within a transaction, and returns the domain; undefined if it does not exist. After the commit new
 * contents are indexed by the new text search configuration. Writers wait for the commit; searches do not.
 */
export async function updateDomain(
  transaction: Queryable,
  name: string,
  { description, textSearchConfig }: DomainChanges,
): Promise<DomainRecord | undefined> {
  await transaction.query({ text: "select lock_memory_domain($1)" }, [name]);
  const rows = await transaction.query<DomainRow>(
    {
      writes: true,
      text: `update memory_domains set
          description = coalesce($2, description),
          former_text_search_configs = case when text_search_config = $3 or $3 is null
            then former_text_search_configs
            else array_remove(former_text_search_configs || text_search_config, $3) end,
          text_reindexed_to = case when text_search_config = $3 or $3 is null then text_reindexed_to end,
          text_search_config = coalesce($3, text_search_config)
        where name = $1
        returning ${domainColumns}`,
    },
    [name, description ?? null, textSearchConfig ?? null],
  );
  if (rows[0] === undefined) return undefined;
  await transaction.query(
    { writes: true, text: "select create_domain_text_vector(d) from memory_domains d where name = $1" },
    [name],
  );
  return domainFromRow(rows[0]);
}

/** Drops the domain within a transaction. Returns the number of its memories; undefined if it does not exist. */
export async function dropDomain(transaction: Queryable, name: string): Promise<bigint | undefined> {
  const [row] = await transaction.query<{ memories: bigint | null }>(
    { writes: true, text: "select drop_domain_memories_table($1) as memories" },
    [name],
  );
  return row?.memories ?? undefined;
}

/** Returns the text search configurations that are visible and need no quotes, by name. */
export async function selectTextSearchConfigs(
  database: Queryable,
  options?: QueryOptions,
): Promise<string[]> {
  const rows = await database.query<{ name: string }>(
    {
      text: `select cfgname::text as name from pg_ts_config
        where pg_ts_config_is_visible(oid) and cfgname ~ '^[a-z_][a-z0-9_]*$' order by 1`,
    },
    [],
    options,
  );
  return rows.map(({ name }) => name);
}

export async function selectEmbeddingVersions(
  database: Queryable,
  versions: readonly number[],
  options?: QueryOptions,
): Promise<EmbeddingVersionRecord[]> {
  const rows = await database.query<Row & EmbeddingVersionRecord>(
    {
      name: "select_embedding_versions",
      text: `select version, model, digest, dimensions, profile, chunker from memory_embedding_versions
        where version = any($1::integer[])`,
    },
    [versions],
    options,
  );
  return rows.map((row) => ({ ...row }));
}

/**
 * Changes the dimensions of a domain's embedding columns, unless they are the same or the domain does not exist. This
 * rewrites every row, so the statement has no time-out, and other calls to the domain wait.
 */
export async function changeDimensions(database: Database, name: string, dimensions: number): Promise<void> {
  const [domain] = await database.query<{ differs: boolean }>(
    { text: "select dimensions is distinct from $2::integer as differs from memory_domains where name = $1" },
    [name, dimensions],
  );
  if (!domain?.differs) return;
  await database.session(async (session) => {
    await session.execute("set statement_timeout = 0");
    await session.query({ writes: true, text: "select change_domain_dimensions($1, $2::integer)" }, [
      name,
      dimensions,
    ]);
  });
}

/** Switches the domain to the version within a transaction, and changes the dimensions of its columns if necessary. */
export async function setEmbeddingVersion(
  transaction: Queryable,
  name: string,
  version: number,
  dimensions: number,
): Promise<void> {
  await transaction.query({ writes: true, text: "select change_domain_dimensions($1, $2::integer)" }, [
    name,
    dimensions,
  ]);
  await transaction.query(
    { writes: true, text: "update memory_domains set embedding_version = $2 where name = $1" },
    [name, version],
  );
}

interface KnownVersion extends Row {
  readonly version: number;
  readonly lacks_probe: boolean;
}

/** Returns the version of this space. A space without a probe matches any probe. */
async function findEmbeddingVersion(
  database: Queryable,
  parameters: readonly Parameter[],
): Promise<KnownVersion | undefined> {
  const [known] = await database.query<KnownVersion>(
    {
      text: `select version, probe is null and $6::vector is not null as lacks_probe from memory_embedding_versions
        where model = $1 and digest = $2 and dimensions = $3 and profile = $4 and chunker = $5
          and ($6::vector is null or probe is null or 1 - (probe <=> $6::vector) >= $7::float8)
        order by probe <=> $6::vector nulls last, version desc
        limit 1`,
    },
    [...parameters, SAME_ENGINE_SIMILARITY],
  );
  return known;
}

/**
 * Returns the version of a space, and registers a new one. Writes only if necessary, because the database may be
 * read-only.
 */
export async function registerEmbeddingVersion(
  database: Database,
  space: EmbeddingSpace,
  chunker: number,
): Promise<number> {
  const parameters = [
    space.model,
    space.digest,
    space.dimensions,
    space.profile,
    chunker,
    space.probe ?? null,
  ];
  const known = await findEmbeddingVersion(database, parameters);
  if (known !== undefined && !known.lacks_probe) return known.version;
  return await database.transaction(async (transaction) => {
    // Servers that start at the same time agree on one number.
    await transaction.query({
      writes: true,
      text: "lock table memory_embedding_versions in share row exclusive mode",
    });
    const found = await findEmbeddingVersion(transaction, parameters);
    if (found !== undefined) {
      if (found.lacks_probe) {
        const text = "update memory_embedding_versions set probe = $2::vector where version = $1";
        await transaction.query({ writes: true, text }, [found.version, space.probe ?? null]);
      }
      return found.version;
    }
    const [added] = await transaction.query<{ version: number }>(
      {
        writes: true,
        text: `insert into memory_embedding_versions (model, digest, dimensions, profile, chunker, probe)
          values ($1, $2, $3, $4, $5, $6::vector)
          returning version`,
      },
      parameters,
    );
    if (added === undefined) throw new Error("registering the embedding version returned no row");
    return added.version;
  });
}

function domainFromRow(row: DomainRow): DomainRecord {
  return {
    id: row.id,
    name: row.name,
    createTime: row.created_us,
    description: row.description,
    dimensions: row.dimensions ?? undefined,
    embeddingVersion: row.embedding_version ?? undefined,
    textSearchConfig: row.text_search_config,
    embeddingModel: row.embedding_model ?? undefined,
    requestedDimensions: row.requested_dimensions ?? undefined,
    deduplicateContent: row.deduplicate_content,
  };
}
