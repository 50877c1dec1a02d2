import type { Config } from "../../app/config.ts";
import { openDatabase } from "../../app/open-database.ts";
import { databaseName } from "../../cli/client/addresses.ts";
import { formatCount, formatMemoryCount } from "../../cli/output/format-count.ts";
import { warningLogger } from "../../cli/output/log.ts";
import { createProgress } from "../../cli/output/progress.ts";
import { readConfiguredProfiles } from "../../embedding/configured-profiles.ts";
import { CHUNKER_REVISION, chunkText } from "../../memory/embed/chunk.ts";
import type { Database } from "../../storage/database/database.ts";
import { createPostgresRepository } from "../../storage/postgres/create-repository.ts";
import { StartupError } from "../../util/startup-error.ts";
import type { AdoptedTable } from "../adoption/adopt-table.ts";
import { adoptTables, prepareCatalogue } from "../adoption/adopt-tables.ts";
import { type AdoptionPlan, planAdoption } from "../adoption/adoption-plan.ts";
import { findMismatchedEmbedding } from "../adoption/compare-embeddings.ts";
import { registeredDomains } from "../adoption/legacy-tables.ts";
import type { AdoptCall } from "./adopt-options.ts";
import { choicesOf, countMemories, createReporter, formatNote, readTables } from "./adoption-report.ts";
import { createUnprefixedEmbedder } from "./unprefixed-embedder.ts";

/** Adopts the tables of the old server in the configured database. Returns the exit code. */
export async function adoptInPlace(config: Config, call: AdoptCall): Promise<number> {
  const database = await openDatabase(config, warningLogger);
  try {
    const tables = await readTables(database);
    const plan = planAdoption(tables, choicesOf(call), await registeredDomains(database), { copy: false });
    const reporter = createReporter(call, { place: databaseName(config), plan });
    if (!reporter.proceeds) return reporter.showPlan();
    await prepareCatalogue(database, warningLogger, call.signal);
    const keepAsVersion = call.normalise ? await versionToKeep(config, database, plan, call) : undefined;
    const { MEMORY_MODEL_PROFILES: profiles, OLLAMA_EMBEDDING_MODEL: model } = config.settings;
    const { maxChunkLength } = readConfiguredProfiles(profiles).find(model);
    const progress = createProgress();
    const total = countMemories(plan);
    let rows = 0;
    const adopted = await adoptTables(database, plan, {
      keepAsVersion,
      maxChunkLength,
      countChunks: (content) => chunkText(content, maxChunkLength).length,
      signal: call.signal,
      logger: warningLogger,
      onStep: ({ domain }, step, count) => {
        rows += count;
        progress.show(`${domain}: ${step}, ${formatMemoryCount(rows)}`, rows, total);
      },
    }).finally(() => progress.clear());
    return reporter.showResult(adopted, adopted.map(formatAdopted));
  } finally {
    await database.close();
  }
}

function formatAdopted({ domain, memories, normalised, pending, changedMetadata }: AdoptedTable): string {
  return `${domain}: ${formatMemoryCount(memories)} adopted, ${formatCount(normalised)} embeddings kept, ${formatCount(pending)} to be embedded by the running server${formatNote(changedMetadata, "with metadata moved to old_ keys")}`;
}

/**
 * Returns the embedding version to assign to the old embeddings.
 *
 * @throws StartupError if the embeddings of queries would not match the old ones
 */
async function versionToKeep(
  config: Config,
  database: Database,
  plan: AdoptionPlan,
  call: AdoptCall,
): Promise<number> {
  const { OLLAMA_EMBEDDING_MODEL: model } = config.settings;
  const profile = readConfiguredProfiles(config.settings.MEMORY_MODEL_PROFILES).find(model);
  if ((profile.queryPrefix !== "" || profile.documentPrefix !== "") && !call.despitePrefixes) {
    throw new StartupError(
      `the old embeddings lack the prefixes of ${model} (${JSON.stringify(profile.queryPrefix)}, ${JSON.stringify(profile.documentPrefix)}), so that searches would find them less well`,
      { remedy: "omit --normalise to re-embed every memory, or add --despite-prefixes" },
    );
  }
  const embedder = createUnprefixedEmbedder(config.settings, warningLogger);
  try {
    // The first call waits until the embedder knows the model.
    await embedder.embed(["the model"], "document", call.signal);
    const space = embedder.space();
    if (space === undefined) throw new StartupError(`the model ${model} cannot be used`);
    const mismatch = await findMismatchedEmbedding(database, plan.tables, embedder, call.signal);
    if (mismatch !== undefined) {
      throw new StartupError(
        `the old embedding of memory ${JSON.stringify(mismatch.id)} in ${JSON.stringify(mismatch.table)} does not match what ${model} computes today (cosine similarity ${mismatch.similarity.toFixed(3)})`,
        { remedy: "omit --normalise, or set OLLAMA_EMBEDDING_MODEL to the model that computed it" },
      );
    }
    return await createPostgresRepository(database).registerEmbeddingVersion(space, CHUNKER_REVISION);
  } finally {
    await embedder.close();
  }
}
