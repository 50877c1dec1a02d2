import type { MessageInitShape } from "@bufbuild/protobuf";
import type { Client } from "@connectrpc/connect";
import type { DomainService } from "../src/memoryservice/v1/domain_service_pb.js";
import type {
  MemoryService,
  SearchHit,
  SearchRequestSchema,
  SearchResponse,
  StoreRequestSchema,
  StoreResponse,
  StreamSearchRequestSchema,
} from "../src/memoryservice/v1/memory_service_pb.js";
import type { ServerService } from "../src/memoryservice/v1/server_service_pb.js";
import type { HitStream } from "./hit-stream.ts";
import type { CallOptions } from "./options.ts";

/**
 * Stores and searches memories.
 *
 * Every method except those of `raw` keeps a deadline, retries failed calls where that is safe (see RetryOptions) and
 * throws only MemoryServiceError. An empty or missing domain means the server's default domain.
 */
export interface MemoryClient {
  /**
   * Stores one memory.
   *
   * @param importance A number from 0 to 1.
   * @returns The id of the memory.
   */
  storeMemory(content: string, domain?: string, source?: string, importance?: number): Promise<string>;

  /**
   * Searches for the memories that match a query best.
   *
   * @param limit Maximum number of hits, from 1 to 1,000. Defaults to 5.
   * @returns The hits, best first.
   */
  searchMemories(query: string, domain?: string, limit?: number): Promise<SearchHit[]>;

  /**
   * Stores one memory. If the request has no id, the client creates one, so that a retry cannot store the memory twice.
   */
  store(request: MessageInitShape<typeof StoreRequestSchema>, options?: CallOptions): Promise<StoreResponse>;

  /** Searches for the memories that match a query best, and reports how the server searched. */
  search(
    request: MessageInitShape<typeof SearchRequestSchema>,
    options?: CallOptions,
  ): Promise<SearchResponse>;

  /**
   * Searches for up to 10,000 memories and streams them one by one, best first. The call starts when you begin to
   * iterate and ends when you stop, even if you stop early. The client retries it only before the first message.
   */
  streamSearch(request: MessageInitShape<typeof StreamSearchRequestSchema>, options?: CallOptions): HitStream;

  /**
   * The generated clients, for all other methods. They use the same credentials and interceptors, but they set no
   * deadline, do not retry, and throw ConnectError (see memoryServiceErrorFrom).
   */
  readonly raw: {
    readonly memories: Client<typeof MemoryService>;
    readonly domains: Client<typeof DomainService>;
    readonly server: Client<typeof ServerService>;
  };

  /**
   * Cancels the running calls of this client (except `raw` calls over fetch) and closes its connections. Later calls
   * fail. A Node process exits without it once no call is running.
   */
  close(): void;
}
