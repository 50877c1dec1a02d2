/**
 * The limits of requests, which the comments of their fields in proto/ document. They apply to requests, not to stored
 * memories: imported memories may exceed them.
 */
export const LIMITS = {
  /** Size of a content in UTF-8 bytes. */
  contentBytes: 1024 * 1024,
  /** Size of a query in UTF-8 bytes. */
  queryBytes: 8 * 1024,
  idLength: 50,
  /** The length that DOMAIN_NAME allows. */
  domainLength: 40,
  /** Length of a domain's description. */
  descriptionLength: 1_024,
  sourceLength: 256,
  tagCount: 64,
  tagLength: 64,
  /** Size of metadata as JSON in UTF-8 bytes. */
  metadataBytes: 64 * 1024,
  /** Depth of nested objects and lists in metadata. A flat object has depth 1. */
  metadataDepth: 16,
  searchLimit: 1_000,
  streamLimit: 10_000,
  searchDomains: 16,
  /** Dimensions of an embedding: the limit of a pgvector column. */
  dimensions: 16_000,
  /** Depth of nested filters. A single condition has depth 1. */
  filterDepth: 8,
  filterConditions: 128,
  /** Number of entries in each list of values in a filter. */
  filterValues: 1_000,
  /** Length of each string in a filter. */
  filterStringLength: 1_024,
  /** Number of keys in a path into metadata. */
  filterPathKeys: 16,
  rankingWeight: 100,
  /** The constant `k` of reciprocal rank fusion. */
  rankingK: 1_000,
  /** Minimum half-life of the recency boost. */
  halfLifeSeconds: 1n,
  importanceWeight: 10,
  pageSize: 1_000,
  batchItems: 1_000,
  /** Number of rejections in the report of an import. */
  importRejections: 1_000,
  /** Size of a message in bytes: the default maximum of gRPC. */
  messageBytes: 4 * 1024 * 1024,
  /** 100 years. */
  ttlSeconds: 3_153_600_000n,
} as const;

/** Default limit of a Search. */
export const DEFAULT_LIMIT = 5;
/** Default limit of a StreamSearch. */
export const DEFAULT_STREAM_LIMIT = 100;

/** Default page size of List. */
export const DEFAULT_PAGE_SIZE = 50;
/** Maximum size of the repeated field of a response; the rest is reserved for its other fields. */
export const MAX_RESPONSE_BYTES = LIMITS.messageBytes - 64 * 1024;

/** Length of the beginning of a content that List returns instead of the content, in code points. */
export const PREVIEW_LENGTH = 300;

export const DOMAIN_NAME = /^[a-z][a-z0-9_-]{0,39}$/;
export const MEMORY_ID = /^[A-Za-z0-9._:-]{1,50}$/;

/** Default page size of ListDomains. */
export const DEFAULT_DOMAIN_PAGE_SIZE = 50;
