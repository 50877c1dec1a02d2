import type { JsonValue } from "@bufbuild/protobuf";
import { Code, createClient } from "@connectrpc/connect";
import { DomainService } from "memory-service-client/memoryservice/v1/domain_service_pb.js";
import { MemoryService } from "memory-service-client/memoryservice/v1/memory_service_pb.js";
import { ServerService } from "memory-service-client/memoryservice/v1/server_service_pb.js";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { readConfig } from "../../src/app/config.ts";
import { createApiKey } from "../../src/auth/api-keys.ts";
import { type Authenticator, createAuthenticator } from "../../src/auth/authenticator.ts";
import { createDomainUseCases } from "../../src/memory/domains/domains.ts";
import { LIMITS } from "../../src/memory/model/limits.ts";
import { createAuthorizeInterceptor } from "../../src/rpc/interceptors/authorize.ts";
import { createErrorInterceptor } from "../../src/rpc/interceptors/errors.ts";
import { createDomainService } from "../../src/rpc/services/domain-service.ts";
import { createMemoryService } from "../../src/rpc/services/memory-service.ts";
import { createServerService } from "../../src/rpc/services/server-service.ts";
import { type Listener, startListener } from "../../src/server/listener.ts";
import type { Database } from "../../src/storage/database/database.ts";
import { send, sendJson, transports } from "../server/harness.ts";
import { errorOf } from "../support/in-process/service.ts";
import { createUseCases, type UseCases } from "../support/in-process/use-cases.ts";
import { databaseEngines } from "../support/postgres/databases.ts";
import { silentLogger } from "../support/silent-logger.ts";

/** Alice's domains, and scopes for them and for all domains that start with `a-lab-`. */
const own = "a";
const aliceScopes = ["admin:a", "write:a-lab-*"];

/** Bob's domains. Their names differ from Alice's by a suffix, a separator, a letter or a pattern. */
const foreign = ["bob", "a_memories", "a_chunks", "a-lab", "a-", "a_lab-1", "aa"];
const alice = createApiKey({ name: "alice", scopes: aliceScopes });
const bob = createApiKey({ name: "bob", scopes: ["admin:*", "metrics"] });

/** A marker in all of Bob's data. Only Bob may see it. */
const marker = "zanzibar";
const secretId = `id-${marker}`;

/** Ids and tokens of Bob's domains that he may have leaked. */
interface Handles {
  readonly listToken: string;
  readonly domainToken: string;
  readonly cursor: string;
}

const none: Handles = { listToken: "x", domainToken: "x", cursor: "x" };

/** One attempt: a call that Alice makes. */
interface Attempt {
  readonly name: string;
  readonly method: string;
  readonly body: JsonValue | readonly JsonValue[];
}

const paths: Readonly<Record<string, string>> = Object.fromEntries(
  [MemoryService, DomainService, ServerService].flatMap((service) =>
    service.methods.map((method) => [method.name, `/${service.typeName}/${method.name}`]),
  ),
);
const streams = ["StreamSearch", "Export", "Import"];

/** Every method, with every way to name a domain. */
function attemptsOn(domain: string, { listToken, cursor }: Handles): Attempt[] {
  const key = { domain, id: secretId };
  const item = { domain, id: secretId, content: `the island of ${marker} @10` };
  const mine = { domain: own, id: "kept", content: "mine", ifExists: "IF_EXISTS_KEEP" };
  const filter = { tagsAny: { values: [marker] } };
  const record = { record: { memory: { ...item, version: "1" } } };
  const calls: [method: string, ...bodies: JsonValue[]][] = [
    [
      "Store",
      { domain, content: "new" },
      item,
      { ...item, ifExists: "IF_EXISTS_KEEP" },
      { ...item, ifExists: "IF_EXISTS_REPLACE" },
      { ...item, id: "another" },
      { ...item, embedding: { values: [1, 0, 0], embeddingVersion: 1 } },
      { domain, content: "" },
    ],
    [
      "BatchStore",
      { items: [item] },
      { items: [mine, item] },
      { items: [mine, item], atomic: true },
      { items: [item, { ...item, ifExists: "IF_EXISTS_KEEP" }] },
    ],
    ["Get", key, { domain, id: "nothing" }, { domain }],
    [
      "List",
      { domain },
      { domain, pageSize: 1, view: "VIEW_SNIPPET" },
      { domain, pageToken: listToken },
      { domain, pageToken: "x" },
      { domain, filter },
      { domain, orderBy: "ORDER_BY_UPDATE_TIME_ASC" },
    ],
    [
      "Update",
      { memory: { ...key, content: "x" }, updateMask: "content" },
      { memory: { ...key, content: "x" }, updateMask: "content", expectedVersion: "7" },
      { memory: { domain, id: "nothing", source: "x" }, updateMask: "source" },
      { memory: key },
    ],
    ["Delete", key, { ...key, allowMissing: true }, { ...key, expectedVersion: "7" }],
    ["DeleteMatching", { domain, filter, dryRun: true }, { domain, filter }, { domain }],
    [
      "Search",
      { domain, query: marker },
      { domain, query: marker, mode: "SEARCH_MODE_TEXT", explain: true },
      { domain, query: `${marker} @10`, mode: "SEARCH_MODE_SEMANTIC" },
      { domains: [own, domain], query: marker },
      { domains: [domain, own], query: marker },
      { domain: own, domains: [domain], query: marker },
      { domain, allDomains: true, query: marker },
      { domain, query: marker, filter },
      { domain, query: "x", queryEmbedding: { values: [1, 0, 0], embeddingVersion: 1 } },
      { domain, query: "" },
    ],
    ["StreamSearch", { domain, query: marker }, { domains: [own, domain], query: marker, limit: 10 }],
    ["Export", { domain }, { domain, includeEmbeddings: true, filter }, { domain, cursor }],
    ["RetryFailed", { domain }, { domain, filter }],
    ["GetDomain", { name: domain }],
    [
      "CreateDomain",
      { name: domain },
      { name: domain, deduplicateContent: true },
      { name: domain, textSearchConfig: "nothing" },
    ],
    [
      "UpdateDomain",
      { domain: { name: domain, description: "x" }, updateMask: "description" },
      { domain: { name: domain } },
    ],
    ["DeleteDomain", { name: domain, confirmName: domain }, { name: domain }],
  ];
  const single = calls.flatMap(([method, ...bodies]) => bodies.map((body) => ({ method, body })));
  const imports: JsonValue[][] = [
    [{ options: { domain } }, record],
    [{ options: {} }, record],
    [{ options: { onError: "ON_ERROR_CONTINUE", ifExists: "IF_EXISTS_REPLACE" } }, record, record],
    [
      { options: { ifExists: "IF_EXISTS_KEEP" } },
      { record: { memory: { ...mine, ifExists: undefined } } } as never,
      record,
    ],
  ];
  return [...single, ...imports.map((body) => ({ method: "Import", body }))].map(({ method, body }) => ({
    name: `${method} ${JSON.stringify(body)}`,
    method,
    body,
  }));
}

/** Names with a special meaning in SQL, paths or patterns, or that look like Bob's. */
const hostileNames = [
  "bob'",
  "bob'--",
  "bob' or '1'='1",
  `bob"`,
  `bob" union select content from "bob_memories`,
  "bob;drop table bob_memories",
  "bob\\",
  "bob/*",
  "public.bob",
  "public.bob_memories",
  "bob.",
  "..",
  ".",
  "../bob",
  "a/../bob",
  "a/bob",
  "%",
  "b%",
  "a%",
  "_",
  "b_b",
  "___",
  "*",
  "b*",
  "a*",
  "a-*",
  "a-lab*",
  "BOB",
  "Bob",
  " bob",
  "bob ",
  "bob\n",
  "bob\t",
  "a bob",
  "a,bob",
  "a\u0000bob",
  "bob\u0000",
  "bоb", // Cyrillic
  "ｂob", // full width
  "bob\u200b",
  "b\u00adob",
  "bo\u0062\u0301",
  "\u202ebob",
  "a_Memories",
  "A",
  "a\u0301",
  "$1",
  "{bob}",
  "bob_memories",
  "pg_catalog",
  "b".repeat(41),
  "b".repeat(10_000),
];

/** Names that match the prefix of Alice's pattern but are invalid. */
const hostileNamesOfPattern = [
  "a-lab-*",
  "a-lab-/../bob",
  `a-lab-" union select content from "bob_memories`,
  "a-lab-' or '1'='1",
  "a-lab-\u0000",
  "a-lab- bob",
  "a-lab-;bob",
  "a-lab-BOB",
];

/** Calls that name none of Bob's domains and list what exists. */
function attemptsAround({ listToken, domainToken, cursor }: Handles): Attempt[] {
  const calls: [method: string, ...bodies: JsonValue[]][] = [
    ["ListDomains", {}, { pageSize: 1 }, { pageSize: 1_000 }, { pageToken: domainToken }],
    ["GetServerInfo", {}],
    [
      "List",
      { domain: own, pageToken: listToken },
      { domain: own, filter: { tagsAny: { values: [marker] } } },
    ],
    ["Export", { domain: own, cursor }],
    ["Get", { domain: own, id: secretId }, { id: secretId }],
    ["Update", { memory: { domain: own, id: secretId, content: "x" }, updateMask: "content" }],
    ["Delete", { domain: own, id: secretId }, { domain: own, id: secretId, allowMissing: true }],
    ["DeleteMatching", { domain: own, filter: { sources: { values: [marker] } } }],
    [
      "Search",
      { allDomains: true, query: marker },
      { allDomains: true, query: "mine", limit: 1_000 },
      { allDomains: true, query: marker, mode: "SEARCH_MODE_TEXT", limit: 1_000 },
      { allDomains: true, query: "island @10", mode: "SEARCH_MODE_SEMANTIC", limit: 1_000 },
      { allDomains: true, query: marker, filter: { tagsAny: { values: [marker] } } },
      { allDomains: true, query: marker, view: "VIEW_SNIPPET", minSimilarity: -1 },
      { query: marker },
      { domains: ["a-lab-1", own], query: marker },
      { domain: "a-lab-none", query: marker },
    ],
    ["StreamSearch", { allDomains: true, query: marker, limit: 10_000 }, { allDomains: true, query: "mine" }],
    ["GetDomain", {}, { name: "a-lab-none" }],
    ["CreateDomain", { name: "" }],
    ["DeleteDomain", {}],
  ];
  return calls.flatMap(([method, ...bodies]) =>
    bodies.map((body) => ({ name: `${method} ${JSON.stringify(body)}`, method, body })),
  );
}

describe("Alice", () => {
  const engine = databaseEngines()[0];
  let database: Database;
  let useCases: UseCases;
  let listener: Listener;
  let authenticator: Authenticator | undefined;
  /** Responses before Bob had any data, by the index of the attempt. */
  let before: string[];
  let attempts: Attempt[];

  beforeAll(async () => {
    if (engine === undefined) throw new Error("no engine");
    database = await engine.open();
    useCases = createUseCases(database);
    const { repository, contents, memories, domain: defaultDomain, embedder } = useCases;
    const domains = createDomainUseCases({
      repository,
      contents,
      embedBudgetMs: 5_000,
      defaultDomain,
      onReindexing: () => {},
      logger: silentLogger,
    });
    const { settings } = readConfig({ MEMORY_API_KEYS: `${alice.line}\n${bob.line}` });
    authenticator = await createAuthenticator(settings, silentLogger);
    listener = await startListener({
      host: "127.0.0.1",
      port: 0,
      routes(router) {
        router.service(MemoryService, createMemoryService(memories, { defaultDomain }));
        router.service(DomainService, createDomainService(domains, { defaultDomain }));
        router.service(
          ServerService,
          createServerService({
            version: "1.2.3",
            engine: database.engine,
            engineVersion: "",
            defaultDomain,
            createDomains: true,
            authentication: true,
            model: "scripted",
            embedder,
            contents,
            textRanker: "bm25_sql",
          }),
        );
      },
      interceptors: [
        createErrorInterceptor({ logger: silentLogger }),
        createAuthorizeInterceptor({ defaultDomain }),
      ],
      authenticator,
      maxMessageBytes: LIMITS.messageBytes,
      allowedHosts: [],
      allowedOrigins: [],
      readiness: async () => ({ ready: true, checks: {} }),
      shutdown: { graceMs: 5_000 },
      logger: silentLogger,
    });
    await repository.createDomain(defaultDomain, 3);
    await store(alice.key, { domain: own, id: "kept", content: "mine @0" });
    await store(alice.key, { domain: "a-lab-1", id: "lab", content: "mine in the lab @20" });

    const old = await moveIn();
    for (const domain of foreign) await ask(bob.key, "DeleteDomain", { name: domain, confirmName: domain });
    before = [];
    for (const attempt of attemptsWith(old)) before.push(await answerTo(attempt));
    attempts = attemptsWith(await moveIn());
  }, 120_000);

  afterAll(async () => {
    authenticator?.close();
    await listener.close();
    await database.close();
  });

  function attemptsWith(handles: Handles): Attempt[] {
    const named = foreign.flatMap((domain) => attemptsOn(domain, handles));
    const hostile = [...hostileNames, ...hostileNamesOfPattern].flatMap((domain) => {
      const wanted = ["Get", "Search", "Store", "CreateDomain", "BatchStore", "Export"];
      const all = attemptsOn(domain, handles);
      return wanted.flatMap((method) => all.find((attempt) => attempt.method === method) ?? []);
    });
    return [...named, ...hostile, ...attemptsAround(handles)];
  }

  /** Creates Bob's domains, full of secrets. */
  async function moveIn(): Promise<Handles> {
    for (const name of [...foreign, "zz"]) {
      await ask(bob.key, "CreateDomain", { name, description: marker, deduplicateContent: name === "bob" });
      for (const n of [0, 1, 2]) {
        await store(bob.key, {
          domain: name,
          id: n === 0 ? secretId : `${secretId}-${n}`,
          content: `the island of ${marker} mine ${n} @10`,
          source: marker,
          tags: [marker],
          metadata: { [marker]: marker },
        });
      }
    }
    const page = JSON.parse(await ask(bob.key, "List", { domain: "bob", pageSize: 1 }));
    const domains = JSON.parse(await ask(bob.key, "ListDomains", { pageSize: 1 }));
    const exported = await ask(bob.key, "Export", { domain: "bob" });
    const cursor = /"cursor":"([^"]+)"/.exec(exported)?.[1] ?? "";
    const handles = { listToken: page.nextPageToken, domainToken: domains.nextPageToken, cursor };
    expect(Object.values(handles).every((handle) => handle.length > 10)).toBe(true);
    return handles;
  }

  async function ask(key: string, method: string, body: JsonValue | readonly JsonValue[]): Promise<string> {
    return (await exchange(key, method, body)).text;
  }

  async function store(key: string, body: JsonValue): Promise<void> {
    const { status, text } = await exchange(key, "Store", body);
    if (status !== 200) throw new Error(text);
  }

  function exchange(key: string, method: string, body: JsonValue | readonly JsonValue[]) {
    const url = `${listener.url}${paths[method]}`;
    const headers = { authorization: `Bearer ${key}` };
    if (!streams.includes(method)) return sendJson(url, JSON.stringify(body), headers);
    const messages = Array.isArray(body) ? body : [body];
    return send(url, {
      headers: { ...headers, "content-type": "application/connect+json" },
      body: Buffer.concat(messages.map((message) => envelope(JSON.stringify(message)))),
    });
  }

  /** Returns everything that Alice receives, without values that change over time. */
  async function answerTo({ method, body }: Attempt): Promise<string> {
    const { status, headers, text } = await exchange(alice.key, method, body);
    const { date: _date, "x-request-id": _id, ...rest } = headers;
    const timeless = text
      .replaceAll(/"(countsAsOf|exportTime)":"[^"]*"/g, '"$1":""')
      .replaceAll(/"(embedDuration|rankDuration)":"[^"]*"/g, '"$1":""');
    const { "content-length": length, ...compared } = rest;
    return JSON.stringify([status, timeless === text ? { ...compared, length } : compared, timeless]);
  }

  test("cannot access or detect Bob's data in 700 ways", async () => {
    const wrong: { readonly name: string; readonly was: string | undefined; readonly is: string }[] = [];
    for (const [place, attempt] of attempts.entries()) {
      const is = await answerTo(attempt);
      const was = before[place];
      // A response may quote a request with the marker, so the test looks for Bob's stored text, which is longer.
      const told = is.replaceAll(secretId, "").includes(marker) || is.includes(useCases.domain);
      if (is !== was || told) wrong.push({ name: attempt.name, was, is });
    }
    expect(wrong).toEqual([]);
    const refused = before.slice(0, foreign.length * attemptsOn("bob", none).length);
    expect(refused.filter((answer) => !/permission_denied|PERMISSION_DENIED/.test(answer))).toEqual([]);
    expect(before.filter((answer) => answer.includes("cannot decode"))).toEqual([]);

    expect(new Set(attempts.map(({ name }) => name)).size).toBe(attempts.length);
    expect(attempts.length).toBe(before.length);
    expect(attempts.length).toBeGreaterThanOrEqual(700);
  }, 120_000);

  test("has not changed Bob's data or created a domain with these calls", async () => {
    for (const domain of foreign) {
      const { memories } = JSON.parse(await ask(bob.key, "List", { domain }));
      expect(memories.map(({ id, version }: { id: string; version: string }) => [id, version])).toEqual([
        [`${secretId}-2`, "1"],
        [`${secretId}-1`, "1"],
        [secretId, "1"],
      ]);
    }
    const { domains } = JSON.parse(await ask(bob.key, "ListDomains", { pageSize: 1_000 }));
    const names = domains.map(({ name }: { name: string }) => name);
    expect(new Set(names)).toEqual(new Set([...foreign, own, "a-lab-1", "zz", useCases.domain]));
  });

  test("sees all data of her own domains", async () => {
    const listed = JSON.parse(await ask(alice.key, "ListDomains", {}));
    expect(listed.domains.map(({ name }: { name: string }) => name)).toEqual([own, "a-lab-1"]);
    const found = JSON.parse(await ask(alice.key, "Search", { allDomains: true, query: "mine" }));
    expect(found.hits.map(({ memory }: { memory: { id: string } }) => memory.id).sort()).toEqual([
      "kept",
      "lab",
    ]);
    const asked = await whatIsLookedUp(() => ask(alice.key, "ListDomains", { pageSize: 1 }));
    expect(asked.filter((method) => method === "pageDomains")).toHaveLength(2);
    // Two pages of one domain each, although Bob's domains sort between and after them.
    const first = JSON.parse(await ask(alice.key, "ListDomains", { pageSize: 1 }));
    const second = JSON.parse(
      await ask(alice.key, "ListDomains", { pageSize: 1, pageToken: first.nextPageToken }),
    );
    expect([first, second].map(({ domains }) => domains[0].name)).toEqual([own, "a-lab-1"]);
    expect(second.nextPageToken ?? "").toBe("");
  });

  test.each(Object.entries(transports))("gets the same errors over %s", async (_name, createTransport) => {
    const transport = createTransport(listener.url);
    const headers = { authorization: `Bearer ${alice.key}` };
    const memories = createClient(MemoryService, transport);
    const refusals = await Promise.all(
      ["bob", "bot"].map(async (domain) => {
        const error = await errorOf(memories.get({ domain, id: secretId }, { headers }));
        return { ...error, message: error.message.replace(domain, "?"), metadata: error.metadata.scope };
      }),
    );
    expect(refusals[0]).toMatchObject({
      code: Code.PermissionDenied,
      reason: "PERMISSION_DENIED",
      metadata: "read",
    });
    expect(refusals[0]).toEqual(refusals[1]);
  });

  test("gets errors without a database query for domains that she may not access", async () => {
    const attemptsOnBob = attemptsOn("bob", none).filter(
      ({ method }) => !["BatchStore", "Import"].includes(method),
    );
    const asked = await whatIsLookedUp(async () => {
      for (const attempt of attemptsOnBob) await answerTo(attempt);
    });
    expect(asked).toEqual([]);
    expect(await whatIsLookedUp(() => ask(bob.key, "Get", { domain: "bob", id: secretId }))).not.toEqual([]);
  });

  test("would access all of it with Bob's key", async () => {
    const reads: Readonly<Record<string, JsonValue>> = {
      Get: { domain: "bob", id: secretId },
      List: { domain: "bob" },
      Search: { allDomains: true, query: marker },
      StreamSearch: { domain: "bob", query: marker },
      Export: { domain: "bob" },
      GetDomain: { name: "bob" },
      ListDomains: {},
    };
    for (const [method, body] of Object.entries(reads)) {
      expect((await ask(bob.key, method, body)).replaceAll(secretId, "")).toContain(marker);
    }
  });

  /** Records the methods of the repository that are called while `work` runs. */
  async function whatIsLookedUp(work: () => Promise<unknown>): Promise<string[]> {
    const asked: string[] = [];
    const { repository } = useCases;
    const original = { ...repository };
    for (const [name, method] of Object.entries(original)) {
      const watched = (...args: unknown[]): unknown => {
        asked.push(name);
        return Reflect.apply(method, repository, args);
      };
      Object.assign(repository, { [name]: watched });
    }
    try {
      await work();
    } finally {
      Object.assign(repository, original);
    }
    return asked;
  }
});

function envelope(text: string): Buffer {
  const head = Buffer.alloc(5);
  head.writeUInt32BE(Buffer.byteLength(text), 1);
  return Buffer.concat([head, Buffer.from(text)]);
}
