import type { EmbeddingSpace } from "../../embedding/embedder.ts";
import type { Queryable, QueryOptions, Row } from "../database/database.ts";
import type { DomainRecord } from "../memory-repository.ts";

interface DomainRow extends Row {
  readonly name: string;
  readonly dimensions: number | null;
  readonly embedding_version: number | null;
  readonly text_search_config: string;
}

const domainColumns = "name, dimensions, embedding_version, text_search_config";

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

export async function createDomain(
  database: Queryable,
  name: string,
  dimensions: number | undefined,
): Promise<void> {
  await database.query({ text: "select create_domain_memories_table($1, $2::integer)" }, [
    name,
    dimensions ?? null,
  ]);
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
    name: row.name,
    dimensions: row.dimensions ?? undefined,
    embeddingVersion: row.embedding_version ?? undefined,
    textSearchConfig: row.text_search_config,
  };
}
