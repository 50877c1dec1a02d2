/** A memory as the tools and resources of the old server present it. */
export interface FoundMemory {
  readonly id: string;
  /** The whole memory, which may be long. (The old SQLite server returned the matching chunk.) */
  readonly content: string;
  /** The memory's own keys; `source`, `importance` and `tags` if set; `created_at` and `updated_at` in seconds. */
  readonly metadata: Readonly<Record<string, unknown>>;
  /** Higher is better; 0 if the memories were not ranked. */
  readonly score: number;
}

export interface StoreArguments {
  readonly content: string;
  readonly domain?: string | undefined;
  readonly source?: string | undefined;
  readonly importance?: number | undefined;
}

export interface UpdateArguments {
  readonly memoryId: string;
  readonly content?: string | undefined;
  readonly importance?: number | undefined;
  readonly domain?: string | undefined;
}

export interface SearchArguments {
  readonly query: string;
  readonly domain?: string | undefined;
  /** The caller's value, not yet validated; see `limitFrom`. */
  readonly limit: number | null;
  readonly useVector: boolean;
}

/**
 * The operations behind the MCP tools. An omitted domain means the default domain.
 *
 * Every method throws an Error whose message is written for the assistant.
 */
export interface MemoryTools {
  /** Stores a memory and returns its id. */
  store(memory: StoreArguments): Promise<string>;
  /** Updates a memory; returns false if it does not exist. */
  update(change: UpdateArguments): Promise<boolean>;
  search(query: SearchArguments): Promise<FoundMemory[]>;
  listDomains(): Promise<string[]>;
}
