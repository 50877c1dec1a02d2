import type { Logger } from "../util/logger.ts";
import { createDomainResolver } from "./domains/domain-resolver.ts";
import type { ContentEmbedder } from "./embed/content-embedder.ts";
import { createInlineEmbedder } from "./embed/inline-embedder.ts";
import { createRetryFailed, type RetryFailed } from "./embed/retry-failed.ts";
import type { Repository } from "./model/repository.ts";
import { createExport, type Export } from "./read/export.ts";
import { createGet, type Get } from "./read/get.ts";
import { createList, type List } from "./read/list.ts";
import { createPageTokens } from "./read/page-token.ts";
import { createSearch, type Search } from "./search/search.ts";
import { type BatchStore, createBatchStore } from "./write/batch-store.ts";
import { createDelete, type Delete } from "./write/delete.ts";
import { createDeleteMatching, type DeleteMatching } from "./write/delete-matching.ts";
import { createImport, type Import } from "./write/import/import.ts";
import { createStoreRecords } from "./write/import/store-records.ts";
import { createStore, type Store } from "./write/store.ts";
import { createStorePipeline } from "./write/store-pipeline.ts";
import { createUpdate, type Update } from "./write/update.ts";

/** The use cases of memories. */
export interface MemoryUseCases {
  readonly store: Store;
  readonly batchStore: BatchStore;
  readonly get: Get;
  readonly list: List;
  readonly update: Update;
  readonly delete: Delete;
  readonly deleteMatching: DeleteMatching;
  readonly retryFailed: RetryFailed;
  readonly search: Search;
  readonly export: Export;
  readonly import: Import;
  /** Stops completing late embeddings and leaves them to the workers. Call it after the last call has ended. */
  close(): Promise<void>;
}

export interface MemoryUseCaseDependencies {
  readonly repository: Repository;
  readonly contents: ContentEmbedder;
  /** Maximum time that a call waits for the embedder, in milliseconds. */
  readonly embedBudgetMs: number;
  /** Whether storing creates a missing domain. */
  readonly createDomains: boolean;
  /** Maximum number of domains; undefined for no limit. */
  readonly maxDomains?: number | undefined;
  /** Called with the domain of a new pending memory that this server is not embedding. */
  readonly onPending: (domain: string) => void;
  readonly logger: Logger;
}

export function createMemoryUseCases(dependencies: MemoryUseCaseDependencies): MemoryUseCases {
  const { repository, onPending } = dependencies;
  const domains = createDomainResolver(dependencies);
  const tokens = createPageTokens(() => repository.pageTokenKey());
  const embeddings = createInlineEmbedder(dependencies);
  const pipeline = createStorePipeline({ ...dependencies, domains, embeddings });
  const storeRecords = createStoreRecords({ ...dependencies, domains });
  return {
    store: createStore({ pipeline }),
    batchStore: createBatchStore({ pipeline }),
    get: createGet({ repository }),
    list: createList({ repository, tokens }),
    update: createUpdate({ repository, domains, embeddings }),
    delete: createDelete({ repository }),
    deleteMatching: createDeleteMatching({ repository }),
    retryFailed: createRetryFailed(dependencies),
    search: createSearch(dependencies),
    export: createExport({ repository, tokens }),
    import: createImport({ storeRecords, onPending }),
    close: () => embeddings.close(),
  };
}
