/** A memory as the old server's tools and resources show it. */
export interface FoundMemory {
  readonly id: string;
  /** The whole memory, which may be long: the old SQLite version gave the chunk that matched. */
  readonly content: string;
  /** Its own keys, `source`, `importance` and `tags` where they are set, `created_at` and `updated_at` in seconds. */
  readonly metadata: Readonly<Record<string, unknown>>;
  /** Larger is better; 0 where nothing was ranked. */
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
  /** As the caller gave it: see `limitFrom`. */
  readonly limit: number | null;
  readonly useVector: boolean;
}

/**
 * What the tools of the old server do, whoever does it. A domain that is left out is the default one.
 *
 * Every method throws an Error whose message is a sentence for the assistant.
 */
export interface MemoryTools {
  /** Returns the id. */
  store(memory: StoreArguments): Promise<string>;
  /** False: there is no such memory. */
  update(change: UpdateArguments): Promise<boolean>;
  search(query: SearchArguments): Promise<FoundMemory[]>;
  listDomains(): Promise<string[]>;
}
