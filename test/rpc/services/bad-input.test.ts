import { create, fromBinary, type JsonObject, type MessageInitShape } from "@bufbuild/protobuf";
import { base64Decode } from "@bufbuild/protobuf/wire";
import { TimestampSchema } from "@bufbuild/protobuf/wkt";
import { Code } from "@connectrpc/connect";
import type {
  DeleteMatchingRequestSchema,
  ListRequestSchema,
  SearchRequestSchema,
  StoreRequestSchema,
  StreamSearchRequestSchema,
  UpdateRequest,
  UpdateRequestSchema,
} from "memory-service-client/memoryservice/v1/memory_service_pb.js";
import {
  IfExists,
  MemoryService,
  SearchMode,
} from "memory-service-client/memoryservice/v1/memory_service_pb.js";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { BadRequestSchema } from "../../../src/generated/google/rpc/error_details_pb.ts";
import type { Database } from "../../../src/storage/database/database.ts";
import { sendJson, startTestListener } from "../../server/harness.ts";
import {
  collect,
  createServiceClient,
  errorOf,
  memoryServiceRoutes,
} from "../../support/in-process/service.ts";
import { createUseCases, type UseCases } from "../../support/in-process/use-cases.ts";
import { databaseEngines } from "../../support/postgres/databases.ts";

type Store = MessageInitShape<typeof StoreRequestSchema>;
type Search = MessageInitShape<typeof SearchRequestSchema>;
type List = MessageInitShape<typeof ListRequestSchema>;
type Update = Exclude<MessageInitShape<typeof UpdateRequestSchema>, UpdateRequest>;
type DeleteMatching = MessageInitShape<typeof DeleteMatchingRequestSchema>;
type Stream = MessageInitShape<typeof StreamSearchRequestSchema>;

/** What is wrong, the request, the field that is named, and what is said of it. */
type BadRow<R> = readonly [name: string, request: R, field: string, description: string | RegExp];

/** proto3 enums are open: any number arrives. */
const unknownNumber: number = 99;
const negativeNumber: number = -1;
const CENTURY_SECONDS = 3_153_600_000n;
const soon = (seconds: bigint) =>
  create(TimestampSchema, { seconds: BigInt(Math.floor(Date.now() / 1_000)) + seconds });
const lookAlike = "dоmain"; // Its second letter is Cyrillic.

/** An object of so many levels. */
function nested(levels: number): JsonObject {
  let value: JsonObject = { leaf: 1 };
  for (let level = 1; level < levels; level++) value = { a: value };
  return value;
}

const domainRule = /^must be a lower-case letter, then at most 39 of a-z, 0-9, _ and -, got /;
const badDomains = [
  "A",
  "Work",
  "1a",
  "_a",
  "-a",
  " ",
  "a b",
  'a"b',
  "a'b",
  "a;b",
  "a.b",
  "a/b",
  "a\0b",
  "a\n",
  "'; drop table memory_domains; --",
  "d".repeat(41),
  "d".repeat(64),
  "d".repeat(1_000_000),
  lookAlike,
  "ａ",
  "ﬁ",
  "é",
  "😀",
].map(
  (domain): BadRow<{ domain: string }> => [
    `the domain ${JSON.stringify(domain).slice(0, 40)}`,
    { domain },
    "domain",
    domainRule,
  ],
);

const badStores: readonly BadRow<Store>[] = [
  ["no content", { content: "" }, "content", "must not be empty"],
  ["blank content", { content: " \t\r\n\u00a0\u2003" }, "content", "must contain more than white space"],
  [
    "content of 1 MiB and a byte",
    { content: "x".repeat(1_048_577) },
    "content",
    "must have at most 1048576 bytes of UTF-8, has 1048577",
  ],
  [
    "content of 1 MiB and a byte in UTF-8",
    { content: `${"é".repeat(524_288)}x` },
    "content",
    /at most 1048576 bytes of UTF-8, has 1048577/,
  ],
  ["content with NUL", { content: "a\0b" }, "content", "must not contain the NUL character"],
  ["a blank id", { id: " " }, "id", /^must have 1 to 50 characters of /],
  ["an id of 51 characters", { id: "i".repeat(51) }, "id", /^must have 1 to 50 characters of /],
  ["an id with a slash", { id: "a/b" }, "id", /got "a\/b"$/],
  ["an id with a quote", { id: "a'b" }, "id", /^must have 1 to 50 characters of /],
  ["an id with a line end", { id: "a\n" }, "id", /^must have 1 to 50 characters of /],
  ["an id with NUL", { id: "a\0" }, "id", /^must have 1 to 50 characters of /],
  ["an id of other letters", { id: "é" }, "id", /^must have 1 to 50 characters of /],
  ["a very long id", { id: "i".repeat(1_000_000) }, "id", /^must have 1 to 50 characters of .{1,120}$/],
  [
    "a source of 257 characters",
    { source: "s".repeat(257) },
    "source",
    "must have at most 256 characters, has 257",
  ],
  [
    "a source of 257 emoji",
    { source: "😀".repeat(257) },
    "source",
    "must have at most 256 characters, has 257",
  ],
  ["a source with NUL", { source: "\0" }, "source", "must not contain the NUL character"],
  ["importance -0.1", { importance: -0.1 }, "importance", "must be from 0 to 1, got -0.1"],
  ["importance 1.1", { importance: 1.1 }, "importance", "must be from 0 to 1, got 1.1"],
  ["importance NaN", { importance: Number.NaN }, "importance", "must be from 0 to 1, got NaN"],
  [
    "importance Infinity",
    { importance: Number.POSITIVE_INFINITY },
    "importance",
    "must be from 0 to 1, got Infinity",
  ],
  [
    "importance -Infinity",
    { importance: Number.NEGATIVE_INFINITY },
    "importance",
    "must be from 0 to 1, got -Infinity",
  ],
  [
    "65 tags",
    { tags: Array.from({ length: 65 }, (_, i) => `t${i}`) },
    "tags",
    "must have at most 64 tags, has 65",
  ],
  ["an empty tag", { tags: ["a", ""] }, "tags", "tag 1 must not be empty"],
  [
    "a tag of 65 characters",
    { tags: ["t".repeat(65)] },
    "tags",
    "tag 0 must have at most 64 characters, has 65",
  ],
  ["a tag with NUL", { tags: ["a\0"] }, "tags", "tag 0 must not contain the NUL character"],
  ...["source", "importance", "tags"].map(
    (key): BadRow<Store> => [
      `metadata with the key ${key}`,
      { metadata: { [key]: "x" } },
      "metadata",
      `must not have the key "${key}": set the field ${key} instead`,
    ],
  ),
  [
    "metadata of 64 KiB and a byte",
    { metadata: { k: "x".repeat(65_536 - 7) } },
    "metadata",
    "must have at most 65536 bytes of UTF-8, has 65537",
  ],
  [
    "metadata of 64 KiB and a byte in UTF-8",
    { metadata: { k: `${"é".repeat(32_764)}x` } },
    "metadata",
    "must have at most 65536 bytes of UTF-8, has 65537",
  ],
  [
    "metadata of 3 MiB",
    { metadata: { k: "x".repeat(3 * 1024 * 1024) } },
    "metadata",
    /^must have at most 65536 bytes of UTF-8, has 31457/,
  ],
  ["metadata of 17 levels", { metadata: nested(17) }, "metadata", "must have at most 16 levels, has more"],
  [
    "metadata of 17 levels of lists",
    { metadata: { l: [[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]] } },
    "metadata",
    "must have at most 16 levels, has more",
  ],
  [
    "metadata with NUL in a value",
    { metadata: { a: [{ b: "x\0" }] } },
    "metadata",
    "must not contain the NUL character",
  ],
  [
    "metadata with NUL in a key",
    { metadata: { a: { "b\0": 1 } } },
    "metadata",
    "must not contain the NUL character",
  ],
  ["metadata with NaN", { metadata: { a: [Number.NaN] } }, "metadata", /^must contain finite numbers only/],
  [
    "metadata with Infinity",
    { metadata: { a: Number.POSITIVE_INFINITY } },
    "metadata",
    /^must contain finite numbers only/,
  ],
  ["an unknown if_exists", { ifExists: unknownNumber }, "if_exists", "must be one of 0, 1, 2, 3, got 99"],
  ["a negative if_exists", { ifExists: negativeNumber }, "if_exists", "must be one of 0, 1, 2, 3, got -1"],
  [
    "an unknown embedding_mode",
    { embeddingMode: unknownNumber },
    "embedding_mode",
    "must be one of 0, 1, 2, got 99",
  ],
  ...(
    [
      ["0", 0n, 0],
      ["below a microsecond", 0n, 999],
      ["negative", -1n, 0],
      ["negative in part", 0n, -1],
      ["of mixed signs", 1n, -1],
      ["of a century and a microsecond", CENTURY_SECONDS, 1_000],
      ["of 101 years", (CENTURY_SECONDS / 100n) * 101n, 0],
      ["of too many nanoseconds", 1n, 1_000_000_000],
      ["as long as can be", 9_223_372_036_854_775_807n, 0],
    ] as const
  ).map(
    ([name, seconds, nanos]): BadRow<Store> => [
      `a ttl ${name}`,
      { expiry: { case: "ttl", value: { seconds, nanos } } },
      "ttl",
      "must be from 1 microsecond to 100 years",
    ],
  ),
  ...(
    [
      ["in 1970", create(TimestampSchema, {})],
      ["a second ago", soon(-1n)],
      ["in the far past", create(TimestampSchema, { seconds: -62_135_596_800n })],
      ["in 101 years", soon((CENTURY_SECONDS / 100n) * 101n)],
      ["beyond the year 9999", create(TimestampSchema, { seconds: 253_402_300_800n })],
      ["as far as can be", create(TimestampSchema, { seconds: 9_223_372_036_854_775_807n })],
      ["of negative nanoseconds", create(TimestampSchema, { ...soon(60n), nanos: -1 })],
    ] as const
  ).map(
    ([name, value]): BadRow<Store> => [
      `an expire_time ${name}`,
      { expiry: { case: "expireTime", value } },
      "expire_time",
      "must be in the future, at most 100 years ahead",
    ],
  ),
  ...badDomains,
];

type BadVector = readonly [
  name: string,
  embedding: { values: number[]; embeddingVersion?: number },
  field: string,
  description: string,
];
const vector = { values: [1, 0, 0], embeddingVersion: 1 };
const badVectors: readonly BadVector[] = [
  ["no numbers", { values: [], embeddingVersion: 1 }, "values", "must have 1 to 16000 numbers, has 0"],
  [
    "16,001 numbers",
    { values: Array(16_001).fill(1), embeddingVersion: 1 },
    "values",
    "must have 1 to 16000 numbers, has 16001",
  ],
  ["zeros", { values: [0, -0, 0], embeddingVersion: 1 }, "values", "must not be all 0"],
  [
    "NaN",
    { values: [1, Number.NaN, 0], embeddingVersion: 1 },
    "values[1]",
    "must be a finite number, got NaN",
  ],
  [
    "infinity",
    { values: [Number.NEGATIVE_INFINITY, 0, 0], embeddingVersion: 1 },
    "values[0]",
    "must be a finite number, got -Infinity",
  ],
  ["no version", { values: [1, 0, 0] }, "embedding_version", "must be at least 1, got 0"],
];

const badSearches: readonly BadRow<Search & Stream>[] = [
  ["no query", { query: "" }, "query", "must not be empty"],
  ["a blank query", { query: "\n \u3000" }, "query", "must contain more than white space"],
  [
    "a query of 8 KiB and a byte",
    { query: "q".repeat(8_193) },
    "query",
    "must have at most 8192 bytes of UTF-8, has 8193",
  ],
  [
    "a query of 8 KiB and a byte in UTF-8",
    { query: `${"😀".repeat(2_048)}q` },
    "query",
    "must have at most 8192 bytes of UTF-8, has 8193",
  ],
  [
    "a query of 3 MiB",
    { query: "q".repeat(3 * 1024 * 1024) },
    "query",
    /^must have at most 8192 bytes of UTF-8/,
  ],
  ["a query with NUL", { query: "a\0b" }, "query", "must not contain the NUL character"],
  ["an unknown mode", { mode: unknownNumber }, "mode", "must be one of 0, 1, 2, 3, got 99"],
  ["an unknown view", { view: unknownNumber }, "view", "must be one of 0, 1, 2, got 99"],
  ["min_similarity -1.1", { minSimilarity: -1.1 }, "min_similarity", "must be from -1 to 1, got -1.1"],
  ["min_similarity 1.1", { minSimilarity: 1.1 }, "min_similarity", "must be from -1 to 1, got 1.1"],
  ["min_similarity NaN", { minSimilarity: Number.NaN }, "min_similarity", "must be from -1 to 1, got NaN"],
  ["min_text_score -0.1", { minTextScore: -0.1 }, "min_text_score", /^must be at least 0, got -0.1$/],
  ["min_text_score NaN", { minTextScore: Number.NaN }, "min_text_score", /^must be at least 0, got NaN$/],
  [
    "min_text_score Infinity",
    { minTextScore: Number.POSITIVE_INFINITY },
    "min_text_score",
    /^must be at least 0, got Infinity$/,
  ],
  ["text_weight -1", { ranking: { textWeight: -1 } }, "ranking.text_weight", "must be from 0 to 100, got -1"],
  [
    "semantic_weight NaN",
    { ranking: { semanticWeight: Number.NaN } },
    "ranking.semantic_weight",
    "must be from 0 to 100, got NaN",
  ],
  [
    "no weight at all",
    { ranking: { textWeight: 0, semanticWeight: 0 } },
    "ranking.text_weight",
    "must not be 0 together with semantic_weight",
  ],
  ["k 0", { ranking: { k: 0 } }, "ranking.k", "must be from 1 to 1000, got 0"],
  ["k 1,001", { ranking: { k: 1_001 } }, "ranking.k", "must be from 1 to 1000, got 1001"],
  ...(
    [
      ["0", { seconds: 0n }],
      ["999 ms", { nanos: 999_000_000 }],
      ["-1 s", { seconds: -1n }],
      ["1 s less 1 ns", { seconds: 1n, nanos: -1 }],
      ["too many nanos", { seconds: 1n, nanos: 1_000_000_000 }],
    ] as const
  ).map(
    ([name, halfLife]): BadRow<Search & Stream> => [
      `half_life ${name}`,
      { ranking: { halfLife } },
      "ranking.half_life",
      "must be at least 1 second",
    ],
  ),
  ...[-0.1, 10.1, Number.NaN, Number.POSITIVE_INFINITY].map(
    (importanceWeight): BadRow<Search & Stream> => [
      `importance_weight ${importanceWeight}`,
      { ranking: { importanceWeight } },
      "ranking.importance_weight",
      `must be from 0 to 10, got ${importanceWeight}`,
    ],
  ),
  ...[-0.1, 1.1, Number.NaN].map(
    (diversity): BadRow<Search & Stream> => [
      `diversity ${diversity}`,
      { ranking: { diversity } },
      "ranking.diversity",
      `must be from 0 to 1, got ${diversity}`,
    ],
  ),
  ["a domain twice", { domains: ["a", "b", "a"] }, "domains[2]", 'must not be named twice, got "a"'],
  ["an empty name", { domains: ["a", ""] }, "domains[1]", "must not be empty"],
  ["a wrong name", { domains: ["A"] }, "domains[0]", domainRule],
  [
    "17 domains",
    { domains: Array.from({ length: 17 }, (_, i) => `d${i}`) },
    "domains",
    "must have at most 16 names, has 17",
  ],
  ["domain and domains", { domain: "a", domains: ["b"] }, "domains", "must not be set together with domain"],
  [
    "domain and all_domains",
    { domain: "a", allDomains: true },
    "all_domains",
    "must not be set together with domain",
  ],
  [
    "domains and all_domains",
    { domains: ["a"], allDomains: true },
    "all_domains",
    "must not be set together with domains",
  ],
  ...badVectors.map(
    ([name, queryEmbedding, field, description]): BadRow<Search & Stream> => [
      `an embedding of ${name}`,
      { queryEmbedding },
      `query_embedding.${field}`,
      description,
    ],
  ),
  [
    "an embedding in TEXT mode",
    { queryEmbedding: vector, mode: 3 },
    "query_embedding",
    "must not be set in SEARCH_MODE_TEXT",
  ],
  ["no query in HYBRID mode", { queryEmbedding: vector, query: "" }, "query", "must not be empty"],
  [
    "a blank query in SEMANTIC mode",
    { queryEmbedding: vector, query: " ", mode: 2 },
    "query",
    "must contain more than white space",
  ],
  [
    "an embedding for a domain without any",
    { queryEmbedding: vector },
    "query_embedding.embedding_version",
    "must be the embedding version of the domain, which has none yet; is 1",
  ],
  ["an empty filter", { filter: {} }, "filter", "must have a condition"],
  [
    "a filter with a wrong path",
    { filter: { condition: { case: "metadata", value: { test: { case: "exists", value: true } } } } },
    "filter.metadata.path",
    "must have 1 to 16 entries, has 0",
  ],
  ["limit 0", { limit: 0 }, "limit", /^must be from 1 to 10{3,4}, got 0$/],
  ["limit -1", { limit: -1 }, "limit", /^must be from 1 to 10{3,4}, got -1$/],
  ["limit -2^31", { limit: -2_147_483_648 }, "limit", /^must be from 1 to 10{3,4}, got -2147483648$/],
  ["limit 2^31-1", { limit: 2_147_483_647 }, "limit", /^must be from 1 to 10{3,4}, got 2147483647$/],
  ["limit 10,001", { limit: 10_001 }, "limit", /^must be from 1 to 10{3,4}, got 10001$/],
  ...badDomains,
];

const badKeys: readonly BadRow<{ domain?: string; id?: string }>[] = [
  ["no id", { id: "" }, "id", "must not be empty"],
  ["a blank id", { id: " " }, "id", /^must have 1 to 50 characters of /],
  ["an id of 51 characters", { id: "i".repeat(51) }, "id", /^must have 1 to 50 characters of /],
  ["an id with NUL", { id: "a\0" }, "id", /^must have 1 to 50 characters of /],
  ...badDomains,
];

const badLists: readonly BadRow<List>[] = [
  ...badDomains,
  ["page_size 0", { pageSize: 0 }, "page_size", "must be from 1 to 1000, got 0"],
  ["page_size -1", { pageSize: -1 }, "page_size", "must be from 1 to 1000, got -1"],
  ["page_size 1,001", { pageSize: 1_001 }, "page_size", "must be from 1 to 1000, got 1001"],
  ["an unknown order", { orderBy: unknownNumber }, "order_by", "must be one of 0, 1, 2, 3, 4, got 99"],
  ["an unknown view", { view: unknownNumber }, "view", "must be one of 0, 1, 2, got 99"],
  ["a filter without a condition", { filter: {} }, "filter", /condition/],
  [
    "a filter of an empty list",
    { filter: { condition: { case: "allOf", value: { filters: [] } } } },
    "filter.all_of.filters",
    /./,
  ],
];

const inMask = (path: string, memory: Update["memory"]): Update => ({
  memory: { id: "m", ...memory },
  updateMask: { paths: [path] },
  metadataMode: 1,
});

const knownPaths =
  "must have no other paths than content, source, importance, tags, metadata, expire_time, has";

const badUpdates: readonly BadRow<Update>[] = [
  ["no mask", {}, "update_mask", /^must have one of content, .*, unless ttl is set$/],
  [
    "an empty mask",
    { updateMask: { paths: [] } },
    "update_mask",
    /^must have one of content, .*, unless ttl is set$/,
  ],
  ...[
    "nonsense",
    "",
    "*",
    "id",
    "domain",
    "version",
    "create_time",
    "expireTime",
    "metadata.a",
    "memory.tags",
  ].map(
    (path): BadRow<Update> => [
      `the path ${JSON.stringify(path)}`,
      { updateMask: { paths: ["tags", path] } },
      "update_mask",
      `${knownPaths} ${JSON.stringify(path)}`,
    ],
  ),
  [
    "metadata and no mode",
    { updateMask: { paths: ["metadata"] } },
    "metadata_mode",
    "must be set if update_mask has metadata",
  ],
  [
    "an unknown metadata_mode",
    { updateMask: { paths: ["tags"] }, metadataMode: unknownNumber },
    "metadata_mode",
    "must be one of 0, 1, 2, got 99",
  ],
  [
    "an unknown embedding_mode",
    { updateMask: { paths: ["tags"] }, embeddingMode: unknownNumber },
    "embedding_mode",
    "must be one of 0, 1, 2, got 99",
  ],
  [
    "ttl and expire_time",
    { updateMask: { paths: ["expire_time"] }, ttl: { seconds: 60n } },
    "ttl",
    "must not be set together with expire_time in update_mask",
  ],
  ["ttl 0", { ttl: { seconds: 0n } }, "ttl", "must be from 1 microsecond to 100 years"],
  [
    "expire_time in the past",
    inMask("expire_time", { expireTime: soon(-1n) }),
    "memory.expire_time",
    "must be in the future, at most 100 years ahead",
  ],
  ["no content", inMask("content", { content: "" }), "memory.content", "must not be empty"],
  [
    "blank content",
    inMask("content", { content: "\n" }),
    "memory.content",
    "must contain more than white space",
  ],
  [
    "content of 1 MiB and a byte",
    inMask("content", { content: "x".repeat(1_048_577) }),
    "memory.content",
    /at most 1048576 bytes/,
  ],
  [
    "importance 2",
    inMask("importance", { importance: 2 }),
    "memory.importance",
    "must be from 0 to 1, got 2",
  ],
  [
    "a reserved key",
    inMask("metadata", { metadata: { tags: [] } }),
    "memory.metadata",
    /^must not have the key/,
  ],
  [
    "metadata of 17 levels",
    inMask("metadata", { metadata: nested(17) }),
    "memory.metadata",
    "must have at most 16 levels, has more",
  ],
  ["an empty tag", inMask("tags", { tags: [""] }), "memory.tags", "tag 0 must not be empty"],
  [
    "a source with NUL",
    inMask("source", { source: "\0" }),
    "memory.source",
    "must not contain the NUL character",
  ],
  ["no id", { memory: { id: "" }, updateMask: { paths: ["tags"] } }, "memory.id", "must not be empty"],
  [
    "an embedding without content",
    { updateMask: { paths: ["tags"] }, embedding: { values: [1], embeddingVersion: 1 } },
    "embedding",
    "must not be set unless update_mask has content",
  ],
];

describe.each(databaseEngines())("bad input on $name", ({ open }) => {
  let database: Database;
  let useCases: UseCases;
  let client: ReturnType<typeof createServiceClient>;
  let before: unknown;

  /** Every row of every table that a request could have written to. */
  const everything = async () => [
    await database.query({ text: `select * from "${useCases.domain}_memories"` }),
    await database.query({ text: `select * from "${useCases.domain}_chunks"` }),
    await database.query({ text: "select name from memory_domains order by name" }),
    await database.query({ text: "select relname::text from pg_class where relkind = 'r' order by relname" }),
  ];

  beforeAll(async () => {
    database = await open();
    useCases = createUseCases(database);
    await useCases.repository.createDomain(useCases.domain, 3);
    client = createServiceClient(useCases);
    before = await everything();
  });
  afterAll(() => database.close());
  afterEach(async () => {
    expect(await everything()).toEqual(before);
    expect(useCases.embedder.calls).toEqual([]);
  });

  const expectRefusal = async (call: Promise<unknown>, field: string, description: string | RegExp) => {
    const error = await errorOf(call);
    expect(error).toMatchObject({
      code: Code.InvalidArgument,
      reason: "INVALID_ARGUMENT",
      violations: [
        {
          field,
          description: typeof description === "string" ? description : expect.stringMatching(description),
        },
      ],
      retries: false,
    });
    expect(error.message).toBe(`${field}: ${error.violations[0]?.description}`);
  };

  test.each(badStores)("Store with %s", async (_name, request, field, description) => {
    await expectRefusal(client.store({ content: "good", ...request }), field, description);
  });

  test.each(badSearches)("Search with %s", async (_name, request, field, description) => {
    await expectRefusal(client.search({ query: "good", ...request }), field, description);
  });

  test.each(badSearches)("StreamSearch with %s", async (_name, request, field, description) => {
    await expectRefusal(collect(client.streamSearch({ query: "good", ...request })), field, description);
  });

  test("Search with limit 1,001", async () => {
    await expectRefusal(
      client.search({ query: "good", limit: 1_001 }),
      "limit",
      "must be from 1 to 1000, got 1001",
    );
  });

  test("names all that is wrong at once", async () => {
    const error = await errorOf(
      client.store({ content: "", domain: "A", id: "/", importance: 2, tags: [""], ifExists: unknownNumber }),
    );
    expect(error.violations.map(({ field }) => field)).toEqual([
      "content",
      "importance",
      "tags",
      "domain",
      "id",
      "if_exists",
    ]);
    expect(error.message).toBe("content: must not be empty (and 5 more)");
  });

  test.each(badKeys)("Get and Delete with %s", async (_name, request, field, description) => {
    await expectRefusal(client.get({ id: "m", ...request }), field, description);
    await expectRefusal(client.delete({ id: "m", allowMissing: true, ...request }), field, description);
  });

  test.each([0n, -1n, -9_223_372_036_854_775_808n])("expected_version %d", async (expectedVersion) => {
    const description = `must be at least 1, got ${expectedVersion}`;
    await expectRefusal(client.delete({ id: "m", expectedVersion }), "expected_version", description);
    await expectRefusal(
      client.update({ memory: { id: "m" }, updateMask: { paths: ["tags"] }, expectedVersion }),
      "expected_version",
      description,
    );
  });

  test.each(badDomains)("RetryFailed with %s", async (_name, request, field, description) => {
    await expectRefusal(client.retryFailed(request), field, description);
  });

  test("RetryFailed with a filter without a condition", async () => {
    await expectRefusal(client.retryFailed({ filter: {} }), "filter", /condition/);
  });

  test.each([0, 1_001])("BatchStore of %d items", async (count) => {
    const items = Array.from({ length: count }, () => ({ content: "good" }));
    for (const atomic of [true, false]) {
      await expectRefusal(
        client.batchStore({ items, atomic }),
        "items",
        `must have 1 to 1000 items, has ${count}`,
      );
    }
  });

  test.each(badStores)("BatchStore of one item with %s", async (_name, request, field, description) => {
    const item = { content: "good", ...request };
    await expectRefusal(client.batchStore({ items: [item], atomic: true }), `items[0].${field}`, description);
    const { results } = await client.batchStore({ items: [item] });
    expect(results).toMatchObject([
      { result: { case: "error", value: { fieldViolations: [{ field: `items[0].${field}` }] } } },
    ]);
  });

  test.each(badLists)("List with %s", async (_name, request, field, description) => {
    await expectRefusal(client.list(request), field, description);
  });

  test.each(["nonsense", " ", "\0", "AAAA", "A".repeat(100_000)])(
    "List with the page_token %j",
    async (pageToken) => {
      expect(await errorOf(client.list({ pageToken }))).toMatchObject({
        code: Code.InvalidArgument,
        reason: "INVALID_PAGE_TOKEN",
        violations: [{ field: "page_token" }],
        retries: false,
      });
    },
  );

  test.each([
    ["no filter", {}, "filter", "must be set; call DeleteDomain to delete all memories of a domain"],
    [
      "no filter in a dry run",
      { dryRun: true },
      "filter",
      "must be set; call DeleteDomain to delete all memories of a domain",
    ],
    ["an empty filter", { filter: {} }, "filter", "must have a condition"],
    ...badDomains.map(([name, { domain }, field, description]): BadRow<DeleteMatching> => {
      const filter = { condition: { case: "ids" as const, value: { values: ["m"] } } };
      return [name, { domain, filter }, field, description];
    }),
  ] satisfies BadRow<DeleteMatching>[])(
    "DeleteMatching with %s",
    async (_name, request, field, description) => {
      await expectRefusal(client.deleteMatching(request), field, description);
    },
  );

  test.each(badUpdates)("Update with %s", async (_name, request, field, description) => {
    await expectRefusal(client.update({ memory: { id: "m" }, ...request }), field, description);
  });

  test("Update names all that is wrong at once", async () => {
    const error = await errorOf(
      client.update({
        memory: { domain: "A", importance: 2, tags: [""], source: "\0" },
        updateMask: { paths: ["importance", "tags", "metadata", "nonsense"] },
        expectedVersion: 0n,
        ttl: { seconds: 0n, nanos: 0 },
      }),
    );
    expect(error.violations.map(({ field }) => field)).toEqual([
      "memory.domain",
      "memory.id",
      "memory.importance",
      "memory.tags",
      "expected_version",
      "update_mask",
      "metadata_mode",
      "ttl",
    ]);
  });

  test.each([
    ...badVectors,
    [
      "a version that the domain does not use",
      { ...vector, embeddingVersion: 7 },
      "embedding_version",
      "must be the embedding version of the domain, which has none yet; is 7",
    ],
  ] satisfies BadVector[])("an embedding of the caller's with %s", async (_name, own, field, description) => {
    await expectRefusal(client.store({ content: "good", embedding: own }), `embedding.${field}`, description);
    const request = { atomic: true, items: [{ content: "good" }, { content: "good", embedding: own }] };
    await expectRefusal(client.batchStore(request), `items[1].embedding.${field}`, description);
    // A refused call does not create its domain either.
    const elsewhere = errorOf(client.store({ content: "good", domain: "elsewhere", embedding: own }));
    expect((await elsewhere).violations[0]?.field).toBe(`embedding.${field}`);
  });

  test.each(badVectors)("Update with an embedding of %s", async (_name, own, field, description) => {
    const update = { memory: { id: "m", content: "good" }, updateMask: { paths: ["content"] } };
    await expectRefusal(client.update({ ...update, embedding: own }), `embedding.${field}`, description);
  });

  test.each(badDomains)("Export with the domain %j", async (domain) => {
    const error = await errorOf(collect(client.export({ domain })));
    expect(error).toMatchObject({ code: Code.InvalidArgument, violations: [{ field: "domain" }] });
  });

  test("Export with an empty filter", async () => {
    const error = await errorOf(collect(client.export({ filter: {} })));
    expect(error).toMatchObject({ code: Code.InvalidArgument, violations: [{ field: "filter" }] });
  });

  test("more than a message may hold", async () => {
    const tooLarge = { k: "x".repeat(10 * 1024 * 1024) };
    expect(await errorOf(client.store({ content: "good", metadata: tooLarge }))).toMatchObject({
      code: Code.ResourceExhausted,
    });
  });

  test.each([60, 1_000])("metadata of %d levels, which cannot be decoded", async (levels) => {
    const { code } = await errorOf(client.store({ content: "good", metadata: nested(levels) }));
    expect([Code.InvalidArgument, Code.Internal]).toContain(code);
  });

  describe("as JSON over HTTP", () => {
    const post = async (method: string, body: string) => {
      const listener = await startTestListener(memoryServiceRoutes(useCases));
      const answer = await sendJson(`${listener.url}/${MemoryService.typeName}/${method}`, body);
      const json = JSON.parse(answer.text);
      const details: { type: string; value: string }[] = json.details ?? [];
      const violations = details
        .filter(({ type }) => type === "google.rpc.BadRequest")
        .flatMap(({ value }) => fromBinary(BadRequestSchema, base64Decode(value)).fieldViolations)
        .map(({ field, description }) => ({ field, description }));
      return { status: answer.status, code: json.code, message: String(json.message), violations };
    };

    const namedRows: readonly (readonly [string, string, string, string, string])[] = [
      ["no content", "Store", "{}", "content", "must not be empty"],
      [
        "importance NaN",
        "Store",
        '{"content":"good","importance":"NaN"}',
        "importance",
        "must be from 0 to 1, got NaN",
      ],
      [
        "importance Infinity",
        "Store",
        '{"content":"good","importance":"Infinity"}',
        "importance",
        "must be from 0 to 1, got Infinity",
      ],
      ["NUL in content", "Store", '{"content":"a\\u0000"}', "content", "must not contain the NUL character"],
      [
        "half a surrogate pair in metadata",
        "Store",
        '{"content":"good","metadata":{"a":["\\ud800"]}}',
        "metadata",
        "must be well-formed Unicode, has a lone surrogate",
      ],
      [
        "half a surrogate pair in a key",
        "Store",
        '{"content":"good","metadata":{"a\\udfff":1}}',
        "metadata",
        "must be well-formed Unicode, has a lone surrogate",
      ],
      [
        "an unknown enum number",
        "Store",
        '{"content":"good","ifExists":77}',
        "if_exists",
        "must be one of 0, 1, 2, 3, got 77",
      ],
      [
        "metadata of 17 levels",
        "Store",
        JSON.stringify({ content: "good", metadata: nested(17) }),
        "metadata",
        "must have at most 16 levels, has more",
      ],
      ["limit 0", "Search", '{"query":"good","limit":0}', "limit", "must be from 1 to 1000, got 0"],
      ["limit 1001", "Search", '{"query":"good","limit":1001}', "limit", "must be from 1 to 1000, got 1001"],
    ];

    test.each(namedRows)("%s", async (_name, method, body, field, description) => {
      expect(await post(method, body)).toEqual({
        status: 400,
        code: "invalid_argument",
        message: `${field}: ${description}`,
        violations: [{ field, description }],
      });
    });

    // These never reach the service: the code is connect's own, and its message says what could not be read.
    const undecodable: readonly (readonly [string, string, string, RegExp])[] = [
      ["an unknown field", "Store", '{"content":"good","contnet":"x"}', /contnet/],
      ["an unknown field inside of a ttl", "Store", '{"content":"good","ttl":{"seconds":1}}', /ttl|Duration/],
      [
        "both ttl and expire_time",
        "Store",
        '{"content":"good","ttl":"60s","expireTime":"2100-01-01T00:00:00Z"}',
        /expir/,
      ],
      ["a broken expire_time", "Store", '{"content":"good","expireTime":"tomorrow"}', /expire|Timestamp/],
      ["a ttl without a unit", "Store", '{"content":"good","ttl":"60"}', /ttl|Duration/],
      ["half a surrogate pair in content", "Store", '{"content":"a\\ud800"}', /UTF8/i],
      ["half a surrogate pair in a query", "Search", '{"query":"a\\ud800"}', /UTF8/i],
      ["half a surrogate pair in a source", "Store", '{"content":"good","source":"\\udc00"}', /UTF8/i],
      ["half a surrogate pair in a tag", "Store", '{"content":"good","tags":["\\ud800"]}', /UTF8/i],
      [
        "an unknown enum name",
        "Search",
        '{"query":"good","mode":"SEARCH_MODE_MAGIC"}',
        /SEARCH_MODE_MAGIC|mode/,
      ],
      ["a limit beyond 32 bits", "Search", '{"query":"good","limit":2147483648}', /limit/],
      ["a broken limit", "Search", '{"query":"good","limit":1.5}', /limit/],
      ["a number for a text", "Store", '{"content":5}', /content/],
      ["metadata that are no object", "Store", '{"content":"good","metadata":[1]}', /Struct|metadata/],
      [
        "metadata of 1,000 levels",
        "Store",
        JSON.stringify({ content: "good", metadata: nested(1_000) }),
        /depth/,
      ],
      [
        "metadata of 100,000 levels",
        "Store",
        `{"content":"good","metadata":${'{"a":'.repeat(100_000)}1${"}".repeat(100_001)}`,
        /depth|JSON|stack/,
      ],
    ];

    test.each(undecodable)("%s", async (_name, method, body, message) => {
      expect(await post(method, body)).toMatchObject({
        status: 400,
        code: "invalid_argument",
        message: expect.stringMatching(message),
        violations: [],
      });
    });

    test("10 MB of metadata", async () => {
      const body = JSON.stringify({ content: "good", metadata: { k: "x".repeat(10_000_000) } });
      expect(await post("Store", body)).toMatchObject({ status: 429, code: "resource_exhausted" });
    });
  });
});

describe.each(databaseEngines())("input at its bounds on $name", ({ open }) => {
  let database: Database;
  let useCases: UseCases;
  let client: ReturnType<typeof createServiceClient>;

  beforeAll(async () => {
    database = await open();
    useCases = createUseCases(database);
    client = createServiceClient(useCases);
    await client.store({ content: "apple @0", id: "first" });
  });
  afterAll(() => database.close());

  const goodStores: readonly (readonly [string, Store])[] = [
    ["content of 1 MiB", { content: "x".repeat(1_048_576), embeddingMode: 2 }],
    ["content of one character", { content: "." }],
    ["control characters", { content: "\u0001\u007f\ufffe" }],
    ["the longest id", { id: "i".repeat(50) }],
    ["every character of an id", { id: "AZaz09._:-" }],
    ["a source of 256 emoji", { source: "😀".repeat(256) }],
    ["importance 0", { importance: 0 }],
    ["importance 1", { importance: 1 }],
    ["64 tags of 64 characters", { tags: Array.from({ length: 64 }, (_, i) => `${i}`.padEnd(64, "é")) }],
    ["metadata of 64 KiB", { metadata: { k: "x".repeat(65_536 - 8) } }],
    ["metadata of 16 levels", { metadata: nested(16) }],
    [
      "metadata with awkward keys",
      { metadata: JSON.parse('{"__proto__":{"x":1},"":0,"constructor":"c","a":{"__proto__":2}}') },
    ],
    ["metadata with awkward numbers", { metadata: { a: 1e308, b: 5e-324, c: -1e-7, d: 2 ** 53, e: 0.1 } }],
    [
      "the shortest ttl that can be read back",
      { expiry: { case: "ttl", value: { seconds: 60n, nanos: 1_000 } } },
    ],
    ["a ttl of a century", { expiry: { case: "ttl", value: { seconds: CENTURY_SECONDS, nanos: 0 } } }],
    [
      "an expire_time in almost a century",
      { expiry: { case: "expireTime", value: soon(CENTURY_SECONDS - 60n) } },
    ],
    ["a domain of 40 characters", { domain: "d".repeat(40) }],
  ];

  test.each(goodStores)("Store with %s", async (_name, request) => {
    const { memory } = await client.store({ content: "good", ...request });
    const { expiry: _, embeddingMode: __, ...sent } = request;
    expect(memory).toMatchObject(sent);
    if (sent.metadata !== undefined)
      expect(JSON.stringify(sorted(memory?.metadata))).toBe(JSON.stringify(sorted(sent.metadata)));
  });

  test("drops repeated tags and keeps their order", async () => {
    const { memory } = await client.store({ content: "good", tags: ["b", "a", "b", "A"] });
    expect(memory?.tags).toEqual(["b", "a", "A"]);
  });

  const goodSearches: readonly (readonly [string, Search & Stream])[] = [
    ["a query of 8 KiB", { query: "q".repeat(8_192) }],
    ["a query without a word", { query: "?!" }],
    ["limit 1", { limit: 1 }],
    ["limit 1,000", { limit: 1_000 }],
    ["min_similarity -1", { minSimilarity: -1 }],
    ["min_similarity 1", { minSimilarity: 1 }],
    ["min_text_score 0", { minTextScore: 0 }],
    ["weights of the words alone", { ranking: { textWeight: 100, semanticWeight: 0 } }],
    ["k 1", { ranking: { k: 1 } }],
    ["k 1,000", { ranking: { k: 1_000 } }],
  ];

  test.each(goodSearches)("Search and StreamSearch with %s", async (_name, request) => {
    const { hits, info } = await client.search({ query: "apple @0", ...request });
    expect(info).toBeDefined();
    const messages = await collect(client.streamSearch({ query: "apple @0", limit: 5, ...request }));
    expect(messages.map(({ item }) => item.case)).toEqual(["info", ...hits.map(() => "hit"), "summary"]);
  });

  /** The semantic leg may find something for each query. The last column is the number of hits of the full-text leg. */
  const awkwardQueries: readonly (readonly [string, string, number])[] = [
    ["only stop words", "the of and", 0],
    ["only punctuation", "?! ... -- ''' \"", 0],
    ["8 KiB of words", "apple ".repeat(1_365), 1],
    ["8 KiB of quotes", '"'.repeat(8_192), 0],
    ["8 KiB of Chinese", "天".repeat(2_730), 0],
    ["a quote that is not closed", '"apple', 1],
    ["operators without words", '- -"" "" -- & | ! <-> :* ()', 0],
    ["operators that contradict each other", 'apple -apple "apple"', 0],
    ["SQL", "'); drop table memory_domains; --", 0],
    ["right-to-left letters", "تفاحة \u05ea\u05e4\u05d5\u05d7", 1],
    ["marks of direction around a word", "\u202eapple\u202c", 1],
    ["emoji", "👩‍👩‍👧 🎉", 0],
    ["control characters", "\u0001\u001f\u007f", 0],
    ["control characters around a word", "\u0001apple\u001f", 1],
    ["white space of many kinds", "\t\n\u00a0\u3000apple\u2028", 1],
  ];

  describe.each([SearchMode.HYBRID, SearchMode.SEMANTIC, SearchMode.TEXT])("in mode %d", (mode) => {
    test.each(awkwardQueries)("Search by %s", async (_name, query, found) => {
      const domain = "awkward";
      await client.store({ domain, id: "m", content: "an apple @0", ifExists: IfExists.REPLACE });
      await client.store({ domain, id: "r", content: "تفاحة @90", ifExists: IfExists.REPLACE });
      const { hits } = await client.search({ domain, query, mode });
      expect(hits.length).toBe(mode === SearchMode.TEXT ? found : 2);
    });
  });

  test("StreamSearch with limit 10,000", async () => {
    const messages = await collect(client.streamSearch({ query: "apple", limit: 10_000 }));
    expect(messages.at(-1)?.item.case).toBe("summary");
  });
});

/** With keys in one order; jsonb has its own. */
function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted);
  if (typeof value !== "object" || value === null) return value;
  const entries = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1));
  return Object.fromEntries(entries.map(([key, inner]) => [key, sorted(inner)]));
}
