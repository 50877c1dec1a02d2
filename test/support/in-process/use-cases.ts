import { type ContentEmbedder, createContentEmbedder } from "../../../src/memory/embed/content-embedder.ts";
import { type EmbeddingWorker, startEmbeddingWorker } from "../../../src/memory/embed/embedding-worker.ts";
import type { CallContext } from "../../../src/memory/model/call-context.ts";
import { ServiceError } from "../../../src/memory/model/errors.ts";
import type { Memory } from "../../../src/memory/model/memory.ts";
import type { Repository } from "../../../src/memory/model/repository.ts";
import type { List, ListCommand } from "../../../src/memory/read/list.ts";
import { NO_BOOST } from "../../../src/memory/search/boost.ts";
import { DEFAULT_FUSION } from "../../../src/memory/search/fuse-scores.ts";
import type { Search } from "../../../src/memory/search/search.ts";
import type { SearchCommand } from "../../../src/memory/search/search-command.ts";
import { SNIPPET_LENGTH } from "../../../src/memory/search/snippet.ts";
import { createMemoryUseCases, type MemoryUseCases } from "../../../src/memory/use-cases.ts";
import type { BatchStore } from "../../../src/memory/write/batch-store.ts";
import type { Delete, DeleteCommand } from "../../../src/memory/write/delete.ts";
import type { Store } from "../../../src/memory/write/store.ts";
import type { StoreCommand } from "../../../src/memory/write/store-command.ts";
import type { Update, UpdateCommand } from "../../../src/memory/write/update.ts";
import type { Database } from "../../../src/storage/database/database.ts";
import { createPostgresRepository } from "../../../src/storage/postgres/create-repository.ts";
import { newDomainName } from "../drafts.ts";
import { requireDeclaredWrites } from "../postgres/require-declared-writes.ts";
import { silentLogger } from "../silent-logger.ts";
import { createScriptedEmbedder, type ScriptedEmbedder } from "./scripted-embedder.ts";

/** The use cases as src/app/open-services.ts wires them, with an embedder that the test controls. */
export interface UseCases {
  /** The default domain of commands, which does not exist yet. */
  readonly domain: string;
  readonly database: Database;
  readonly repository: Repository;
  readonly embedder: ScriptedEmbedder;
  readonly contents: ContentEmbedder;
  readonly memories: MemoryUseCases;
  readonly search: Search;
  /** Domains that were reported to have a new pending memory. */
  readonly notified: string[];
  store(fields?: Partial<StoreCommand>, call?: Partial<CallContext>): ReturnType<Store>;
  /** Stores memories with these fields and defaults for the others; not atomic unless requested. */
  batchStore(
    items: readonly (Partial<StoreCommand> | ServiceError)[],
    options?: { readonly atomic?: boolean },
    call?: Partial<CallContext>,
  ): ReturnType<BatchStore>;
  /** Changes the memory. By default replaces metadata and waits for the embedding. */
  update(
    id: string,
    changes: UpdateCommand["changes"],
    fields?: Partial<UpdateCommand>,
    call?: Partial<CallContext>,
  ): ReturnType<Update>;
  /** Lists the first page of 50, newest first. */
  list(fields?: Partial<ListCommand>): ReturnType<List>;
  delete(id: string, fields?: Partial<DeleteCommand>): ReturnType<Delete>;
  find(fields?: Partial<SearchCommand>, call?: Partial<CallContext>): ReturnType<Search["search"]>;
  /** Returns the ids of the hits of a search. */
  idsOf(fields?: Partial<SearchCommand>): Promise<string[]>;
  read(id: string): Promise<Memory | undefined>;
  /** Starts a worker that `close` stops. */
  startWorker(options?: { readonly leaseMs?: number }): EmbeddingWorker;
  /** Resolves with the memory once it is in this state. */
  whenState(id: string, state: Memory["embedding"]["state"]): Promise<Memory>;
  close(): Promise<void>;
}

export interface UseCaseOptions {
  readonly embedder?: ScriptedEmbedder;
  /** Defaults to 1 hour, so that results do not depend on the speed of the machine. */
  readonly embedBudgetMs?: number;
  readonly createDomains?: boolean;
  readonly maxDomains?: number;
  /** Wraps the repository that the use cases use. */
  readonly wrap?: (repository: Repository) => Repository;
}

export function createUseCases(database: Database, options: UseCaseOptions = {}): UseCases {
  const { embedder = createScriptedEmbedder(), embedBudgetMs = 3_600_000, createDomains = true } = options;
  const domain = newDomainName();
  const direct = createPostgresRepository(requireDeclaredWrites(database));
  const repository = options.wrap?.(direct) ?? direct;
  const contents = createContentEmbedder({ embedder, repository, logger: silentLogger });
  const notified: string[] = [];
  let worker: EmbeddingWorker | undefined;
  const onPending = (name: string) => {
    notified.push(name);
    worker?.notify(name);
  };
  const memories = createMemoryUseCases({
    repository,
    contents,
    embedBudgetMs,
    createDomains,
    maxDomains: options.maxDomains,
    onPending,
    logger: silentLogger,
  });
  const { store, search } = memories;
  const callFrom = (call: Partial<CallContext> = {}): CallContext => ({
    signal: new AbortController().signal,
    remainingMs: undefined,
    ...call,
  });

  const useCases: UseCases = {
    domain,
    database,
    repository,
    embedder,
    contents,
    memories,
    search,
    notified,
    store: (fields, call) => store({ ...storeCommand(domain), ...fields }, callFrom(call)),
    batchStore: (items, { atomic = false } = {}, call) =>
      memories.batchStore(
        {
          atomic,
          items: items.map((item) =>
            item instanceof ServiceError ? item : { ...storeCommand(domain), ...item },
          ),
        },
        callFrom(call),
      ),
    update: (id, changes, fields, call) =>
      memories.update(
        {
          domain,
          id,
          changes,
          metadataMode: "replace",
          expectedVersion: undefined,
          embeddingMode: "inline",
          ...fields,
        },
        callFrom(call),
      ),
    list: (fields) => memories.list({ ...listCommand(domain), ...fields }, callFrom()),
    delete: (id, fields) =>
      memories.delete({ domain, id, allowMissing: false, expectedVersion: undefined, ...fields }, callFrom()),
    find: (fields, call) => search.search({ ...searchCommand(domain), ...fields }, callFrom(call)),
    async idsOf(fields) {
      return (await useCases.find(fields)).hits.map(({ memory }) => memory.id);
    },
    async read(id) {
      const [found] = await repository.fetch(domain, [{ id, chunkIndex: undefined }], {
        content: true,
        snippetLength: SNIPPET_LENGTH,
      });
      return found?.memory;
    },
    startWorker(options = {}) {
      worker = startEmbeddingWorker({
        repository,
        contents,
        embedders: embedder,
        logger: silentLogger,
        ...options,
      });
      return worker;
    },
    async whenState(id, state) {
      for (;;) {
        const memory = await useCases.read(id);
        if (memory?.embedding.state === state) return memory;
      }
    },
    async close() {
      await memories.close();
      await worker?.close();
    },
  };
  return useCases;
}

export function storeCommand(domain: string): StoreCommand {
  return {
    domain,
    id: undefined,
    content: "a memory @0",
    source: "",
    importance: undefined,
    tags: [],
    metadata: {},
    expiry: { kind: "never" },
    ifExists: "fail",
    embeddingMode: "inline",
  };
}

function listCommand(domain: string): ListCommand {
  return {
    domain,
    filter: undefined,
    order: { by: "create_time", descending: true },
    pageSize: 50,
    pageToken: "",
    content: true,
  };
}

export function searchCommand(domain: string): SearchCommand {
  return {
    domains: [domain],
    query: "memory @0",
    embedding: undefined,
    limit: 10,
    mode: "hybrid",
    allowFallback: true,
    minSimilarity: undefined,
    minTextScore: undefined,
    filter: undefined,
    fusion: DEFAULT_FUSION,
    boost: NO_BOOST,
    diversity: 0,
    content: true,
    explain: false,
  };
}

/** Starts use cases for one test after another; `endAll` closes those of a test and empties their domains. */
export function createUseCaseStarter(database: () => Database) {
  let opened: UseCases[] = [];
  return {
    start(options?: UseCaseOptions): UseCases {
      const useCases = createUseCases(database(), options);
      opened.push(useCases);
      return useCases;
    },
    async endAll(): Promise<void> {
      for (const useCases of opened) {
        await useCases.close();
        // A worker processes all domains, so it must not be busy with those of other tests.
        const known = await useCases.repository.findDomain(useCases.domain);
        if (known !== undefined) await database().execute(`truncate "${useCases.domain}_memories" cascade`);
      }
      opened = [];
    },
  };
}
