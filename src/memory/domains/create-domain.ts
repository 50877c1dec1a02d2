import { within } from "../../util/wait.ts";
import type { ContentEmbedder } from "../embed/content-embedder.ts";
import { DEFAULT_DOMAIN_SETTINGS, type DomainRecord, type DomainSettings } from "../model/domain.ts";
import type { DomainStore } from "../model/domain-store.ts";
import { type Embedders, EmbedError, type ModelChoice, usesDefaultModel } from "../model/embedder.ts";
import { assertNoViolations, ServiceError } from "../model/errors.ts";

export interface CreateDomainCommand extends Omit<DomainSettings, "textSearchConfig"> {
  readonly name: string;
  /** Undefined for the server's default. */
  readonly textSearchConfig: string | undefined;
}

/** A text that every usable model can embed. */
const PROBE = "a question";

/**
 * Creates a domain, or returns the existing domain if it has the same settings.
 *
 * @param onCreated Called as soon as a new domain is committed.
 * @throws ServiceError DOMAIN_ALREADY_EXISTS (with other settings), DOMAIN_LIMIT_REACHED, INVALID_ARGUMENT
 */
export type CreateDomain = (
  command: CreateDomainCommand,
  signal: AbortSignal,
  onCreated?: () => void,
) => Promise<{ readonly domain: DomainRecord; readonly created: boolean }>;

export function createDomainCreation(dependencies: {
  readonly repository: DomainStore;
  readonly contents: ContentEmbedder;
  /** Undefined if every domain uses the default model. */
  readonly embedders?: Pick<Embedders, "discard">;
  /** Maximum time to wait for the embedder to check a model. */
  readonly embedBudgetMs: number;
  /** Maximum number of domains; undefined for no limit. */
  readonly maxDomains?: number | undefined;
}): CreateDomain {
  const { repository, contents, maxDomains } = dependencies;

  /** Rejects a model that the embedder reports as unusable. Accepts any model while the embedder is unavailable. */
  async function assertModel(choice: ModelChoice, signal: AbortSignal): Promise<void> {
    if (usesDefaultModel(choice)) return;
    const probing = contents.of(choice).embedQuery(PROBE, signal);
    probing.catch(() => {});
    try {
      await within(probing, dependencies.embedBudgetMs);
    } catch (error) {
      signal.throwIfAborted();
      if (!(error instanceof EmbedError)) throw error;
      if (error.kind === "unavailable") return;
      dependencies.embedders?.discard(choice);
      const field = choice.embeddingModel === undefined ? "dimensions" : "embedding_model";
      assertNoViolations([{ field, description: `must be usable by the embedder: ${error.message}` }]);
    }
  }

  /** Creates the domain with the embedder's current version, if that is known. */
  async function createNew(name: string, settings: DomainSettings, onCreated?: () => void) {
    const embedder = contents.of(settings);
    const dimensions = (await embedder.current())?.dimensions;
    const result = await repository.createDomain(name, dimensions, { settings, maxDomains });
    if (!result.created) return result;
    onCreated?.();
    return { domain: await embedder.align(result.domain), created: true };
  }

  return async (command, signal, onCreated) => {
    const textSearchConfig = command.textSearchConfig ?? DEFAULT_DOMAIN_SETTINGS.textSearchConfig;
    if (command.textSearchConfig !== undefined) {
      await assertTextSearchConfig(repository, textSearchConfig, "text_search_config", signal);
    }
    const settings = { ...command, textSearchConfig };
    const known = await repository.readDomain(command.name, signal);
    if (known === undefined) await assertModel(settings, signal);
    const result =
      known === undefined
        ? await createNew(command.name, settings, onCreated)
        : { domain: known, created: false };
    if (!result.created) assertSameSettings(result.domain, settings);
    return result;
  };
}

/** @throws ServiceError INVALID_ARGUMENT unless the database has the text search configuration. */
export async function assertTextSearchConfig(
  repository: DomainStore,
  config: string,
  field: string,
  signal: AbortSignal,
): Promise<void> {
  const known = await repository.listTextSearchConfigs(signal);
  if (known.includes(config)) return;
  assertNoViolations([
    { field, description: `must be a text search configuration of the database: ${known.join(", ")}` },
  ]);
}

/** Compares all settings except the description, which may change at any time. */
function assertSameSettings(domain: DomainRecord, settings: DomainSettings): void {
  const differing = [
    ...(domain.textSearchConfig === settings.textSearchConfig ? [] : ["text_search_config"]),
    ...(domain.embeddingModel === settings.embeddingModel ? [] : ["embedding_model"]),
    ...(domain.requestedDimensions === settings.requestedDimensions ? [] : ["dimensions"]),
    ...(domain.deduplicateContent === settings.deduplicateContent ? [] : ["deduplicate_content"]),
  ];
  if (differing.length === 0) return;
  throw new ServiceError(
    "DOMAIN_ALREADY_EXISTS",
    `domain "${domain.name}" exists and differs in ${differing.join(", ")}`,
    { metadata: { domain: domain.name, fields: differing.join(",") } },
  );
}
