import { ServiceError } from "../../memory/model/errors.ts";
import { DatabaseError, type Queryable } from "../../storage/database/database.ts";
import { SQLSTATE, sqlstateOf } from "../../storage/database/errors.ts";
import { domainTables, isAlive } from "../../storage/postgres/domains/domain-tables.ts";
import { type Check, type DomainReport, problem, warning } from "./check.ts";

/** A domain as it appears in the report, with further facts for the checks. */
export interface InspectedDomain {
  readonly report: DomainReport;
  /** Digest of the model that computed the embeddings; empty if unknown. */
  readonly digest: string;
  readonly profile: string;
  /** Whether the domain was created with its own model or dimensions, and does not follow the configured model. */
  readonly ownModel: boolean;
  /** The most frequent reason why embeddings failed. */
  readonly failureReason: string | undefined;
}

interface DomainRow extends Readonly<Record<string, unknown>> {
  readonly name: string;
  readonly dimensions: number | null;
  readonly version: number | null;
  readonly model: string | null;
  readonly digest: string | null;
  readonly profile: string | null;
  readonly own_model: boolean;
}

/** Counts the memories of each domain. A domain that cannot be counted is reported as a check. */
export async function inspectDomains(
  database: Queryable,
): Promise<{ checks: Check[]; domains: InspectedDomain[] }> {
  const checks: Check[] = [];
  const domains: InspectedDomain[] = [];
  for (const row of await selectDomains(database)) {
    try {
      domains.push(await inspectDomain(database, row));
    } catch (error) {
      checks.push(uncountedDomain(row.name, error));
    }
  }
  return { checks, domains };
}

async function selectDomains(database: Queryable): Promise<DomainRow[]> {
  try {
    return await database.query<DomainRow>({
      text: `select d.name, d.dimensions, v.version, v.model, v.digest, v.profile,
          (d.embedding_model is not null or d.requested_dimensions is not null) as own_model
        from memory_domains d left join memory_embedding_versions v on v.version = d.embedding_version
        order by d.name`,
    });
  } catch (error) {
    // The database is not migrated yet; the check of the migrations reports that.
    const state = sqlstateOf(error);
    if (state === SQLSTATE.undefinedTable || state === SQLSTATE.undefinedColumn) return [];
    throw error;
  }
}

async function inspectDomain(database: Queryable, row: DomainRow): Promise<InspectedDomain> {
  const { memories } = domainTables(row.name);
  const [counts] = await database.query<{
    memories: number;
    pending: number;
    failed: number;
    older: number;
    reason: string | null;
  }>(
    {
      text: `select count(*)::float8 as memories,
          (count(*) filter (where embedding_state = 'pending'))::float8 as pending,
          (count(*) filter (where embedding_state = 'failed'))::float8 as failed,
          (count(*) filter (where embedding_state = 'ready' and embedding_version is distinct from $1::integer))::float8
            as older,
          mode() within group (order by embedding_error) filter (where embedding_state = 'failed') as reason
        from ${memories} as m where ${isAlive("m")}`,
    },
    [row.version],
  );
  return {
    report: {
      name: row.name,
      model: row.model,
      dimensions: row.dimensions,
      embeddingVersion: row.version,
      memories: counts?.memories ?? 0,
      pending: counts?.pending ?? 0,
      failed: counts?.failed ?? 0,
      olderVersions: counts?.older ?? 0,
    },
    digest: row.digest ?? "",
    profile: row.profile ?? "",
    ownModel: row.own_model,
    failureReason: counts?.reason ?? undefined,
  };
}

function uncountedDomain(domain: string, error: unknown): Check {
  if (sqlstateOf(error) === SQLSTATE.undefinedTable) {
    return problem(
      "domain",
      `domain "${domain}" exists but its table does not`,
      `restore the table, or recreate it empty in psql: select create_domain_memories_table('${domain}')`,
    );
  }
  if (error instanceof ServiceError || error instanceof DatabaseError) {
    return warning(
      "domain",
      `cannot count the memories of domain "${domain}": ${error.message}`,
      "run doctor again later",
    );
  }
  throw error;
}

/** Finds invalid indexes that a failed build left behind. Indexes that are being built are excluded. */
export async function checkIndexes(
  database: Queryable,
  domains: readonly InspectedDomain[],
): Promise<Check[]> {
  if (domains.length === 0) return [];
  const rows = await database.query<{ index: string; domain: string }>(
    {
      text: `select c.relname::text as index, d.name as domain
        from unnest($1::text[]) as d (name)
        join pg_index i on i.indrelid in
          (to_regclass(format('%I', d.name || '_memories')), to_regclass(format('%I', d.name || '_chunks')))
        join pg_class c on c.oid = i.indexrelid
        where not i.indisvalid
          and i.indexrelid not in (select index_relid from pg_stat_progress_create_index)
        order by c.relname`,
    },
    [domains.map(({ report }) => report.name)],
  );
  return rows.map(({ index, domain }) =>
    warning(
      "indexes",
      `the index ${index} is invalid; searches of domain "${domain}" do not use it`,
      `rebuild it in psql: select create_domain_memories_table('${domain}')`,
    ),
  );
}
