import type { Logger } from "../../util/logger.ts";
import { untilAborted, within } from "../../util/wait.ts";
import type { ContentEmbedder } from "../embed/content-embedder.ts";
import {
  DEFAULT_DOMAIN_SETTINGS,
  type DomainChanges,
  type DomainFigures,
  type DomainRecord,
  type DomainSettings,
  type EmbeddingVersionRecord,
} from "../model/domain.ts";
import type { DomainStore, EmbeddingVersionStore, PageTokenKeyStore } from "../model/domain-store.ts";
import { type Embedders, EmbedError, type ModelChoice, usesDefaultModel } from "../model/embedder.ts";
import { assertNoViolations, domainNotFound, ServiceError } from "../model/errors.ts";
import { createPageTokens } from "../read/page-token.ts";
import { createFiguresReader } from "./domain-figures.ts";

/** A domain with its embedding version and figures. */
export interface DomainReport {
  readonly domain: DomainRecord;
  /** The embedding version that searches use; undefined until the first embedding. */
  readonly embeddingVersion: EmbeddingVersionRecord | undefined;
  readonly figures: DomainFigures;
}

export interface CreateDomainCommand extends Omit<DomainSettings, "textSearchConfig"> {
  readonly name: string;
  /** Undefined for the server's default. */
  readonly textSearchConfig: string | undefined;
}

/**
 * The use cases of domains. A change is committed before the figures of its response are counted; `onChanged` is called
 * as soon as it is committed, so that the audit log records it even if counting fails.
 */
export interface DomainUseCases {
  /** @throws ServiceError DOMAIN_ALREADY_EXISTS (with other settings), DOMAIN_LIMIT_REACHED, INVALID_ARGUMENT */
  create(
    command: CreateDomainCommand,
    signal: AbortSignal,
    onChanged?: () => void,
  ): Promise<{ readonly report: DomainReport; readonly created: boolean }>;
  /** @throws ServiceError DOMAIN_NOT_FOUND */
  get(name: string, signal: AbortSignal): Promise<DomainReport>;
  /** Lists domains by name. @throws ServiceError INVALID_PAGE_TOKEN */
  list(
    page: {
      readonly size: number;
      readonly token: string;
      /** Whether the caller may read a domain; undefined if the caller may read every domain. */
      readonly mayRead?: (name: string) => boolean;
    },
    signal: AbortSignal,
  ): Promise<{ readonly reports: DomainReport[]; readonly nextPageToken: string }>;
  /** @throws ServiceError DOMAIN_NOT_FOUND, INVALID_ARGUMENT */
  update(
    command: { readonly name: string } & DomainChanges,
    signal: AbortSignal,
    onChanged?: () => void,
  ): Promise<DomainReport>;
  /** Returns the number of deleted memories. @throws ServiceError DOMAIN_NOT_FOUND */
  delete(name: string, onChanged?: (memories: bigint) => void): Promise<bigint>;
}

/** A text that every usable model can embed. */
const PROBE = "a question";

/**
 * Domains read by one statement if the caller may read few of them. A page then takes 20 statements for 10,000 domains.
 */
const BLOCK_SIZE = 500;

/** The query that page tokens of ListDomains are bound to. */
const LISTED = ["domains"] as const;

export function createDomainUseCases(dependencies: {
  readonly repository: DomainStore & EmbeddingVersionStore & PageTokenKeyStore;
  readonly contents: ContentEmbedder;
  /** Undefined if every domain uses the default model. */
  readonly embedders?: Pick<Embedders, "discard">;
  /** Maximum time that CreateDomain waits for the embedder to check a model. */
  readonly embedBudgetMs: number;
  /** The default domain. Deleting it recreates it empty. */
  readonly defaultDomain: string;
  /** Maximum number of domains; undefined for no limit. */
  readonly maxDomains?: number | undefined;
  /** Called when a domain has to be reindexed. */
  readonly onReindexing: () => void;
  readonly logger: Logger;
}): DomainUseCases {
  const { repository, contents, maxDomains, logger } = dependencies;
  const pageTokens = createPageTokens(() => repository.pageTokenKey());
  const figures = createFiguresReader(repository);

  async function reportOf(domain: DomainRecord, signal: AbortSignal): Promise<DomainReport> {
    const [versions, counted] = await Promise.all([
      versionsOf([domain], signal),
      untilAborted(figures.read(domain), signal),
    ]);
    return { domain, embeddingVersion: versions.get(domain.embeddingVersion ?? 0), figures: counted };
  }

  async function versionsOf(domains: readonly DomainRecord[], signal: AbortSignal) {
    const numbers = new Set(domains.flatMap(({ embeddingVersion }) => embeddingVersion ?? []));
    const versions = numbers.size === 0 ? [] : await repository.readEmbeddingVersions([...numbers], signal);
    return new Map(versions.map((version) => [version.version, version]));
  }

  /** Reads blocks of domains until there are enough that the caller may read, or no more. */
  async function readablePage(
    start: string,
    size: number,
    mayRead: (name: string) => boolean,
    signal: AbortSignal,
  ): Promise<DomainRecord[]> {
    const found: DomainRecord[] = [];
    let block = size;
    for (let after = start; ; block = Math.max(size, BLOCK_SIZE)) {
      const page = await repository.pageDomains(after, block, signal);
      found.push(...page.filter(({ name }) => mayRead(name)));
      const last = page.at(-1);
      if (last === undefined || page.length < block || found.length >= size) return found.slice(0, size);
      after = last.name;
    }
  }

  async function assertTextSearchConfig(config: string, field: string, signal: AbortSignal) {
    const known = await repository.listTextSearchConfigs(signal);
    if (known.includes(config)) return;
    assertNoViolations([
      { field, description: `must be a text search configuration of the database: ${known.join(", ")}` },
    ]);
  }

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
  async function createDomain(name: string, settings: DomainSettings, onChanged?: () => void) {
    const embedder = contents.of(settings);
    const dimensions = (await embedder.current())?.dimensions;
    const result = await repository.createDomain(name, dimensions, { settings, maxDomains });
    if (!result.created) return result;
    onChanged?.();
    return { domain: await embedder.align(result.domain), created: true };
  }

  return {
    async create(command, signal, onChanged) {
      const textSearchConfig = command.textSearchConfig ?? DEFAULT_DOMAIN_SETTINGS.textSearchConfig;
      if (command.textSearchConfig !== undefined) {
        await assertTextSearchConfig(textSearchConfig, "text_search_config", signal);
      }
      const settings = { ...command, textSearchConfig };
      const known = await repository.readDomain(command.name, signal);
      if (known === undefined) await assertModel(settings, signal);
      const { domain, created } =
        known === undefined
          ? await createDomain(command.name, settings, onChanged)
          : { domain: known, created: false };
      if (!created) assertSameSettings(domain, settings);
      else logger.info({ domain: domain.name }, "created a domain");
      return { report: await reportOf(domain, signal), created };
    },

    async get(name, signal) {
      const domain = await repository.readDomain(name, signal);
      if (domain === undefined) throw domainNotFound(name);
      return await reportOf(domain, signal);
    },

    async list({ size, token, mayRead = () => true }, signal) {
      const [after = ""] = token === "" ? [] : await pageTokens.open(LISTED, token);
      // One more than requested, which shows whether there is another page.
      const found = await readablePage(after, size + 1, mayRead, signal);
      const page = found.slice(0, size);
      const [versions, counted] = await Promise.all([
        versionsOf(page, signal),
        figures.readAll(page, signal),
      ]);
      const last = page.at(-1);
      return {
        reports: page.flatMap((domain) => {
          const figuresOf = counted.get(domain.id);
          if (figuresOf === undefined) return [];
          return { domain, embeddingVersion: versions.get(domain.embeddingVersion ?? 0), figures: figuresOf };
        }),
        nextPageToken:
          found.length > size && last !== undefined ? await pageTokens.seal(LISTED, [last.name]) : "",
      };
    },

    async update({ name, description, textSearchConfig }, signal, onChanged) {
      if (textSearchConfig !== undefined) {
        await assertTextSearchConfig(textSearchConfig, "domain.text_search_config", signal);
      }
      signal.throwIfAborted();
      const domain = await repository.updateDomain(name, { description, textSearchConfig });
      if (domain === undefined) throw domainNotFound(name);
      onChanged?.();
      if (textSearchConfig !== undefined) {
        figures.discard(domain);
        dependencies.onReindexing();
      }
      return await reportOf(domain, signal);
    },

    async delete(name, onChanged) {
      const recreate =
        name === dependencies.defaultDomain
          ? { dimensions: (await contents.current())?.dimensions }
          : undefined;
      const memories = await repository.deleteDomain(name, recreate);
      if (memories === undefined) throw domainNotFound(name);
      onChanged?.(memories);
      logger.warn({ domain: name, memories: Number(memories) }, "deleted a domain");
      if (recreate !== undefined) {
        const domain = await repository.readDomain(name);
        if (domain !== undefined) await contents.align(domain);
      }
      return memories;
    },
  };
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
