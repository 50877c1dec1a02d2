/**
 * The bounds of requests, as the comments of their fields in proto/ promise them. They apply to requests, not to
 * rows: imported memories may lie outside.
 */
export const LIMITS = {
  /** UTF-8 bytes of a memory's content. */
  contentBytes: 1024 * 1024,
  /** UTF-8 bytes of a query. */
  queryBytes: 8 * 1024,
  idLength: 50,
  /** As DOMAIN_NAME says. */
  domainLength: 40,
  /** Of a domain's description. */
  descriptionLength: 1_024,
  sourceLength: 256,
  tagCount: 64,
  tagLength: 64,
  /** UTF-8 bytes of metadata as JSON. */
  metadataBytes: 64 * 1024,
  /** Nesting of objects and lists in metadata; a flat object has depth 1. */
  metadataDepth: 16,
  searchLimit: 1_000,
  streamLimit: 10_000,
  searchDomains: 16,
  /** Numbers of an embedding: pgvector's bound for a column. */
  dimensions: 16_000,
  /** A filter that is one condition has depth 1. */
  filterDepth: 8,
  filterConditions: 128,
  /** Entries of each list of values in a filter. */
  filterValues: 1_000,
  /** Characters of each string in a filter. */
  filterStringLength: 1_024,
  /** Keys of a path into metadata. */
  filterPathKeys: 16,
  rankingWeight: 100,
  /** Of reciprocal rank fusion. */
  rankingK: 1_000,
  /** Of recency. */
  halfLifeSeconds: 1n,
  importanceWeight: 10,
  pageSize: 1_000,
  batchItems: 1_000,
  /** Rejections that an import tells of. */
  importRejections: 1_000,
  /** Bytes of one request message, gRPC's usual maximum. */
  messageBytes: 4 * 1024 * 1024,
  /** A century: longer than any server, short enough for every clock. */
  ttlSeconds: 3_153_600_000n,
} as const;

/** Hits of a Search that names no limit: the plan's `limit=5`. */
export const DEFAULT_LIMIT = 5;
/** Hits of a StreamSearch that names no limit. */
export const DEFAULT_STREAM_LIMIT = 100;

/** Memories of a page that names no size. */
export const DEFAULT_PAGE_SIZE = 50;
/** Of a message, what is left to its repeated part. */
export const MAX_RESPONSE_BYTES = LIMITS.messageBytes - 64 * 1024;

export const DOMAIN_NAME = /^[a-z][a-z0-9_-]{0,39}$/;
export const MEMORY_ID = /^[A-Za-z0-9._:-]{1,50}$/;

/** Domains of a page that names no size. */
export const DEFAULT_DOMAIN_PAGE_SIZE = 50;
