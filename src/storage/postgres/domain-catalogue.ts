import type { EmbeddingSpace } from "../../embedding/embedder.ts";
import { ServiceError } from "../../errors.ts";
import type { Queryable, QueryOptions, Row } from "../database/database.ts";
import {
  type CreateDomainOptions,
  DEFAULT_DOMAIN_SETTINGS,
  type DomainRecord,
} from "../memory-repository.ts";

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
 * Inside a transaction: makes the domain unless it exists; its tables are made or brought up to date in any case.
 * Returns whether it was made.
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
  // As the function that makes the tables does: the row's own lock would come before this one otherwise.
  await transaction.query({ text: "select lock_memory_domain($1)" }, [name]);
  const made = await transaction.query(
    {
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
  if (made.length === 0 && (await selectDomain(transaction, name)) === undefined) {
    throw new ServiceError(
      "DOMAIN_LIMIT_REACHED",
      `there are ${maxDomains} domains already, and may be no more`,
      {
        metadata: { domain: name, limit: String(maxDomains) },
      },
    );
  }
  await transaction.query({ text: "select create_domain_memories_table($1, $2::integer)" }, [
    name,
    dimensions ?? null,
  ]);
  return made.length === 1;
}

/** Only one transaction at a time may count the domains and make one more. */
async function lockCatalogue(transaction: Queryable): Promise<void> {
  await transaction.query({
    text: "select pg_advisory_xact_lock(hashtextextended('memory-service domains', 0))",
  });
}

/** Inside a transaction: retypes the embedding columns if need be, then moves the domain to the version. */
export async function setEmbeddingVersion(
  transaction: Queryable,
  name: string,
  version: number,
  dimensions: number,
): Promise<void> {
  await transaction.query({ text: "select change_domain_dimensions($1, $2::integer)" }, [name, dimensions]);
  await transaction.query({ text: "update memory_domains set embedding_version = $2 where name = $1" }, [
    name,
    version,
  ]);
}

export async function registerEmbeddingVersion(
  database: Queryable,
  space: EmbeddingSpace,
  chunker: number,
): Promise<number> {
  const parameters = [space.model, space.digest, space.dimensions, space.profile, chunker];
  // Not an upsert: that would use up a number at every start.
  const known = {
    text: `select version from memory_embedding_versions
      where model = $1 and digest = $2 and dimensions = $3 and profile = $4 and chunker = $5`,
  };
  let rows = await database.query<{ version: number }>(known, parameters);
  if (rows.length === 0) {
    await database.query(
      {
        text: `insert into memory_embedding_versions (model, digest, dimensions, profile, chunker)
          values ($1, $2, $3, $4, $5) on conflict do nothing`,
      },
      parameters,
    );
    rows = await database.query<{ version: number }>(known, parameters);
  }
  const version = rows[0]?.version;
  if (version === undefined) throw new Error("the embedding version just registered is not there");
  return version;
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
