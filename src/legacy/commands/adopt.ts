import { type Config, readConfig } from "../../app/config.ts";
import { openDatabase } from "../../app/open-database.ts";
import { abortOnSignal } from "../../cli/abort-on-signal.ts";
import { databaseName } from "../../cli/client/addresses.ts";
import { domainMapFrom } from "../../cli/domain-map.ts";
import { formatCount, formatMemoryCount } from "../../cli/output/format-count.ts";
import { warningLogger } from "../../cli/output/log.ts";
import { createProgress } from "../../cli/output/progress.ts";
import { UsageError } from "../../cli/usage-error.ts";
import { readConfiguredProfiles } from "../../embedding/configured-profiles.ts";
import { CHUNKER_REVISION, chunkText } from "../../memory/embed/chunk.ts";
import { StartupError } from "../../memory/model/errors.ts";
import { DOMAIN_NAME } from "../../memory/model/limits.ts";
import type { Database } from "../../storage/database/database.ts";
import { openPostgresDatabase } from "../../storage/database/postgres-database.ts";
import { createPostgresRepository } from "../../storage/postgres/create-repository.ts";
import { adoptTables, prepareCatalogue } from "../adoption/adopt-tables.ts";
import { type AdoptionPlan, planAdoption } from "../adoption/adoption-plan.ts";
import { findMismatchedEmbedding } from "../adoption/compare-embeddings.ts";
import { copyTable } from "../adoption/copy-table.ts";
import { findLegacyTables, registeredDomains } from "../adoption/legacy-tables.ts";
import { withTargetDomain } from "./open-target-domain.ts";
import { createUnprefixedEmbedder } from "./unprefixed-embedder.ts";

export interface AdoptCommandOptions {
  readonly from?: string;
  readonly server?: string;
  readonly map?: readonly string[];
  readonly skip?: readonly string[];
  readonly normalise?: boolean;
  readonly despitePrefixes?: boolean;
  readonly onConflict?: "skip" | "replace";
  readonly yes?: boolean;
  readonly json?: boolean;
}

/**
 * Shows what would become of the tables of the old PostgreSQL version; with `yes` does it. Returns the exit code: 1 if the
 * plan cannot be carried out, or some memories were rejected.
 *
 * @throws StartupError, UsageError
 */
export async function adopt(options: AdoptCommandOptions): Promise<number> {
  const config = readConfig(process.env);
  const map = domainMapFrom(options.map ?? []);
  if (options.from !== undefined && options.normalise) {
    throw new UsageError("--normalise keeps embeddings in place: with --from they are made again");
  }
  if (options.despitePrefixes && !options.normalise) {
    throw new UsageError("--despite-prefixes says something about --normalise only");
  }
  if (options.onConflict !== undefined && options.from === undefined) {
    throw new UsageError("--on-conflict says something about --from only");
  }
  if (options.server !== undefined && options.from === undefined) {
    throw new UsageError("--server says something about --from only");
  }
  if (options.from === undefined && config.postgres === undefined) {
    throw new UsageError(
      "adopt takes over tables in PostgreSQL: set DATABASE_URL to their database, or copy them with --from URL",
    );
  }
  const interrupted = abortOnSignal();
  try {
    const run = options.from === undefined ? adoptInPlace : copyFrom;
    return await run(config, { ...options, map, signal: interrupted.signal });
  } catch (error) {
    throw interrupted.signal.aborted ? new StartupError("interrupted: run adopt again to go on") : error;
  } finally {
    interrupted.stop();
  }
}

interface Run extends Omit<AdoptCommandOptions, "map"> {
  readonly map: ReadonlyMap<string, string>;
  readonly signal: AbortSignal;
}

async function adoptInPlace(config: Config, run: Run): Promise<number> {
  const database = await openDatabase(config, warningLogger);
  try {
    const plan = planAdoption(await readTables(database), choicesOf(run), await registeredDomains(database), {
      copy: false,
    });
    const say = reporter(run, { place: databaseName(config), plan });
    if (!say.goesOn) return say.plan();
    await prepareCatalogue(database, warningLogger, run.signal);
    const keepAsVersion = run.normalise ? await versionToKeep(config, database, plan, run) : undefined;
    const { MEMORY_MODEL_PROFILES: profiles, OLLAMA_EMBEDDING_MODEL: model } = config.settings;
    const { maxChunkLength } = readConfiguredProfiles(profiles).find(model);
    const progress = createProgress();
    const total = sumOf(plan);
    let rows = 0;
    const done = await adoptTables(database, plan, {
      keepAsVersion,
      maxChunkLength,
      countChunks: (content) => chunkText(content, maxChunkLength).length,
      signal: run.signal,
      logger: warningLogger,
      onStep: ({ domain }, step, count) => {
        rows += count;
        progress.show(`${domain}: ${step}, ${formatMemoryCount(rows)}`, rows, total);
      },
    }).finally(() => progress.clear());
    return say.done(
      done,
      done.map(
        ({ domain, memories, normalised, pending, changedMetadata }) =>
          `${domain}: ${formatMemoryCount(memories)} taken over, ${formatCount(normalised)} embeddings kept, ${formatCount(pending)} to be embedded by the running server${note(changedMetadata, "with metadata moved to old_ keys")}`,
      ),
    );
  } finally {
    await database.close();
  }
}

async function copyFrom(config: Config, run: Run): Promise<number> {
  const url = run.from ?? "";
  if (!URL.canParse(url) || !/^postgres(ql)?:$/.test(new URL(url).protocol)) {
    throw new UsageError("--from must be a URL as postgres://user:password@host:5432/database");
  }
  const source = await openPostgresDatabase({
    connection: { connectionString: url },
    poolSize: 1,
    logger: warningLogger,
  });
  try {
    const plan = planAdoption(await readTables(source), choicesOf(run), new Set(), { copy: true });
    const say = reporter(run, {
      place: databaseName({ ...config, postgres: { connectionString: url } }),
      plan,
    });
    if (!say.goesOn) return say.plan();
    return await withTargetDomain({ server: run.server }, async (target) => {
      const progress = createProgress();
      const total = sumOf(plan);
      let rows = 0;
      try {
        const done = await source.session(async (session) => {
          await session.execute("set statement_timeout = 0; set default_transaction_read_only = on");
          const tables = [];
          for (const table of plan.tables) {
            tables.push(
              await copyTable(session, target.client, table, {
                onConflict: run.onConflict ?? "skip",
                signal: run.signal,
                onProgress: (count) => {
                  rows += count;
                  progress.show(`${table.domain}: ${formatMemoryCount(rows)}`, rows, total);
                },
                onRejected: ({ old }, id, reason) => {
                  progress.clear();
                  console.error(`${JSON.stringify(old.table)}, memory ${JSON.stringify(id)}: ${reason}`);
                },
              }),
            );
          }
          return tables;
        });
        progress.clear();
        const code = say.done(
          done,
          done.map(
            ({ domain, memories, created, replaced, unchanged, kept, rejected, inexactNumbers }) =>
              `${domain}: ${formatMemoryCount(memories)} read, ${formatCount(created)} created${note(replaced, "replaced")}${note(unchanged, "unchanged")}${note(kept, "kept as they are in the target")}${note(rejected, "rejected")}${note(inexactNumbers, "with numbers kept as text, too")}`,
          ),
        );
        return done.some(({ rejected }) => rejected > 0) ? 1 : code;
      } finally {
        progress.clear();
      }
    });
  } finally {
    await source.close();
  }
}

/** @throws StartupError */
async function readTables(database: Database) {
  const tables = await database.session(async (session) => {
    await session.execute("set statement_timeout = 0");
    return await findLegacyTables(session);
  });
  return tables;
}

/**
 * The embedding version under which old embeddings are kept.
 *
 * @throws StartupError if the model's questions would not match them
 */
async function versionToKeep(
  config: Config,
  database: Database,
  plan: AdoptionPlan,
  run: Run,
): Promise<number> {
  const { OLLAMA_EMBEDDING_MODEL: model } = config.settings;
  const profile = readConfiguredProfiles(config.settings.MEMORY_MODEL_PROFILES).find(model);
  if ((profile.queryPrefix !== "" || profile.documentPrefix !== "") && !run.despitePrefixes) {
    throw new StartupError(
      `the old embeddings were made without the prefixes that ${model} is asked with (${JSON.stringify(profile.queryPrefix)}, ${JSON.stringify(profile.documentPrefix)}), so that searches would find less well`,
      { remedy: "leave out --normalise to have all made again, or add --despite-prefixes" },
    );
  }
  const embedder = createUnprefixedEmbedder(config.settings, warningLogger);
  try {
    // Waits for the first look at Ollama.
    await embedder.embed(["the model"], "document", run.signal);
    const space = embedder.space();
    if (space === undefined) throw new StartupError(`the model ${model} cannot be used`);
    const other = await findMismatchedEmbedding(database, plan.tables, embedder, run.signal);
    if (other !== undefined) {
      throw new StartupError(
        `the old embedding of memory ${JSON.stringify(other.id)} in ${JSON.stringify(other.table)} is not what ${model} makes of it today (cosine ${other.similarity.toFixed(3)})`,
        { remedy: "leave out --normalise, or set OLLAMA_EMBEDDING_MODEL to the model that made it" },
      );
    }
    return await createPostgresRepository(database).registerEmbeddingVersion(space, CHUNKER_REVISION);
  } finally {
    await embedder.close();
  }
}

function choicesOf({ map, skip }: Run) {
  return { map, skip: new Set(skip ?? []) };
}

function sumOf(plan: AdoptionPlan): number {
  return plan.tables.reduce((sum, { old }) => sum + old.figures.memories, 0);
}

function note(count: number, what: string): string {
  return count === 0 ? "" : `, ${formatCount(count)} ${what}`;
}

/** Says the plan, and what was done, to people or as JSON. */
function reporter(run: Run, { place, plan }: { readonly place: string; readonly plan: AdoptionPlan }) {
  const possible = plan.problems.length === 0;
  const facts = {
    from: place,
    tables: plan.tables.map(({ old, domain }) => ({ table: old.table, domain, ...old.figures })),
    skipped: plan.skipped.map(({ table }) => table),
    problems: plan.problems,
  };
  const lines = [
    plan.tables.length === 0
      ? `no tables of the old version in ${place}`
      : `${plan.tables.length} tables of the old version in ${place}:`,
    ...plan.tables.map(({ old, domain }) => {
      const { memories, withoutEmbedding, zeroEmbeddings, oddIds, oddMetadata } = old.figures;
      return `  ${JSON.stringify(old.table)} ${DOMAIN_NAME.test(domain) ? `becomes the domain ${domain}` : "needs a name"}: ${formatMemoryCount(memories)}${note(withoutEmbedding, "without embedding")}${note(zeroEmbeddings, "with an embedding of zeros")}${note(oddIds, "with an id that requests cannot name")}${note(oddMetadata, "with metadata to be moved to old_ keys")}`;
    }),
    ...plan.skipped.map(({ table }) => `  ${JSON.stringify(table)} is left alone`),
    ...plan.problems.map((problem) => `problem: ${problem}`),
  ];
  const write = (value: unknown, text: readonly string[]) =>
    process.stdout.write(run.json ? `${JSON.stringify(value, undefined, 2)}\n` : `${text.join("\n")}\n`);
  return {
    goesOn: run.yes === true && possible && plan.tables.length > 0,
    /** Of a plan that is not carried out. */
    plan(): number {
      const hint = possible && plan.tables.length > 0 && !run.yes;
      write({ ...facts, done: false }, [
        ...lines,
        ...(hint ? ["nothing is changed yet: add --yes to carry this out"] : []),
      ]);
      return possible ? 0 : 1;
    },
    done(results: readonly { readonly domain: string }[], sentences: readonly string[]): number {
      write({ ...facts, done: true, results }, [...lines, "done:", ...sentences.map((line) => `  ${line}`)]);
      return 0;
    },
  };
}
