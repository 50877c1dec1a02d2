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
import { type Embedders, EmbedError, type ModelChoice, usesDefaultModel } from "../model/embedder.ts";
import { assertNoViolations, domainNotFound, ServiceError } from "../model/errors.ts";
import type { Repository } from "../model/repository.ts";
import { createPageTokens } from "../read/page-token.ts";
import { createFiguresReader } from "./domain-figures.ts";

/** A domain with everything that is told of it. */
export interface DomainReport {
  readonly domain: DomainRecord;
  /** What made the embeddings that searches use; undefined until there are some. */
  readonly embeddingVersion: EmbeddingVersionRecord | undefined;
  readonly figures: DomainFigures;
}

export interface CreateDomainCommand extends Omit<DomainSettings, "textSearchConfig"> {
  readonly name: string;
  /** Undefined: the server's default. */
  readonly textSearchConfig: string | undefined;
}

/**
 * Everything that callers can do with domains. A change is done before the figures of its answer are counted: `onChanged` is
 * told at once, also where that fails.
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
  /** By name. @throws ServiceError INVALID_PAGE_TOKEN */
  list(
    page: {
      readonly size: number;
      readonly token: string;
      /** Which the caller may know of; undefined: every one. */
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
  /** Returns how many memories it had. @throws ServiceError DOMAIN_NOT_FOUND */
  delete(name: string, onChanged?: (memories: bigint) => void): Promise<bigint>;
}

/** A model that embeds this can be used. */
const PROBE = "a question";

/** Read at once where most are not the caller's: of 10,000 domains one page then takes 20 statements. */
const MANY_DOMAINS = 500;

/** What the tokens of this list are bound to. */
const LISTED = ["domains"] as const;

export function createDomainUseCases(dependencies: {
  readonly repository: Repository;
  readonly contents: ContentEmbedder;
  /** Undefined: no domain has a model of its own. */
  readonly embedders?: Pick<Embedders, "discard">;
  /** How long CreateDomain waits at most for what the embedder says of a model. */
  readonly embedBudgetMs: number;
  /** The one that comes back empty when it is deleted. */
  readonly defaultDomain: string;
  /** How many domains there may be; undefined: any number. */
  readonly maxDomains?: number | undefined;
  /** Told that words of some domain are to be indexed anew. */
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

  /** Goes on until there are enough that the caller may know of, or no more. */
  async function readablePage(
    start: string,
    size: number,
    mayRead: (name: string) => boolean,
    signal: AbortSignal,
  ): Promise<DomainRecord[]> {
    const found: DomainRecord[] = [];
    let block = size;
    for (let after = start; ; block = Math.max(size, MANY_DOMAINS)) {
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

  /** Refuses what the embedder says at once that it cannot do; one that is away, or loads or pulls a model, may. */
  async function assertModel(choice: ModelChoice, signal: AbortSignal): Promise<void> {
    if (usesDefaultModel(choice)) return;
    const asked = contents.of(choice).embedQuery(PROBE, signal);
    asked.catch(() => {});
    try {
      await within(asked, dependencies.embedBudgetMs);
    } catch (error) {
      signal.throwIfAborted();
      if (!(error instanceof EmbedError)) throw error;
      if (error.kind === "unavailable") return;
      dependencies.embedders?.discard(choice);
      const field = choice.embeddingModel === undefined ? "dimensions" : "embedding_model";
      assertNoViolations([{ field, description: `must be one that the embedder can use: ${error.message}` }]);
    }
  }

  /** Searches it in the embedder's version from the beginning, where that is known. */
  async function make(name: string, settings: DomainSettings, onChanged?: () => void) {
    const own = contents.of(settings);
    const dimensions = (await own.current())?.dimensions;
    const made = await repository.createDomain(name, dimensions, { settings, maxDomains });
    if (!made.created) return made;
    onChanged?.();
    return { domain: await own.align(made.domain), created: true };
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
          ? await make(command.name, settings, onChanged)
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
      // One more than asked for tells whether there is another page.
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
        figures.forget(domain);
        dependencies.onReindexing();
      }
      return await reportOf(domain, signal);
    },

    async delete(name, onChanged) {
      const again =
        name === dependencies.defaultDomain
          ? { dimensions: (await contents.current())?.dimensions }
          : undefined;
      const memories = await repository.deleteDomain(name, again);
      if (memories === undefined) throw domainNotFound(name);
      onChanged?.(memories);
      logger.warn({ domain: name, memories: Number(memories) }, "deleted a domain");
      if (again !== undefined) {
        const domain = await repository.readDomain(name);
        if (domain !== undefined) await contents.align(domain);
      }
      return memories;
    },
  };
}

/** The description is not compared: it can be changed at any time. */
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
