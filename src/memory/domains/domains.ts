import type { Logger } from "../../util/logger.ts";
import type { ContentEmbedder } from "../embed/content-embedder.ts";
import type { DomainChanges, DomainRecord } from "../model/domain.ts";
import type { DomainStore, EmbeddingVersionStore, PageTokenKeyStore } from "../model/domain-store.ts";
import type { Embedders } from "../model/embedder.ts";
import { domainNotFound } from "../model/errors.ts";
import { createPageTokens } from "../read/page-token.ts";
import { assertTextSearchConfig, type CreateDomainCommand, createDomainCreation } from "./create-domain.ts";
import { createDomainReports, type DomainReport } from "./domain-report.ts";

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
  const { repository, contents, logger } = dependencies;
  const pageTokens = createPageTokens(() => repository.pageTokenKey());
  const reports = createDomainReports(repository);
  const createDomain = createDomainCreation(dependencies);

  return {
    async create(command, signal, onChanged) {
      const { domain, created } = await createDomain(command, signal, onChanged);
      if (created) logger.info({ domain: domain.name }, "created a domain");
      return { report: await reports.of(domain, signal), created };
    },

    async get(name, signal) {
      const domain = await repository.readDomain(name, signal);
      if (domain === undefined) throw domainNotFound(name);
      return await reports.of(domain, signal);
    },

    async list({ size, token, mayRead = () => true }, signal) {
      const [after = ""] = token === "" ? [] : await pageTokens.open(LISTED, token);
      // One more than requested, which shows whether there is another page.
      const found = await readablePage(repository, after, size + 1, mayRead, signal);
      const page = found.slice(0, size);
      const last = page.at(-1);
      const isLastPage = found.length <= size || last === undefined;
      return {
        reports: await reports.ofPage(page, signal),
        nextPageToken: isLastPage ? "" : await pageTokens.seal(LISTED, [last.name]),
      };
    },

    async update({ name, description, textSearchConfig }, signal, onChanged) {
      if (textSearchConfig !== undefined) {
        await assertTextSearchConfig(repository, textSearchConfig, "domain.text_search_config", signal);
      }
      signal.throwIfAborted();
      const domain = await repository.updateDomain(name, { description, textSearchConfig });
      if (domain === undefined) throw domainNotFound(name);
      onChanged?.();
      if (textSearchConfig !== undefined) {
        reports.discard(domain);
        dependencies.onReindexing();
      }
      return await reports.of(domain, signal);
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

/** Reads blocks of domains until there are enough that the caller may read, or no more. */
async function readablePage(
  repository: DomainStore,
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
