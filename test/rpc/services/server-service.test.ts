import { createClient, createRouterTransport } from "@connectrpc/connect";
import { SearchInfo_TextRanker } from "memory-service-client/memoryservice/v1/memory_service_pb.js";
import {
  GetServerInfoResponse_Engine as Engine,
  ServerService,
} from "memory-service-client/memoryservice/v1/server_service_pb.js";
import { expect, test } from "vitest";
import {
  createServerService,
  type ServerServiceDependencies,
} from "../../../src/rpc/services/server-service.ts";
import { readVersion } from "../../../src/util/package-version.ts";

const space = { model: "nomic-embed-text:latest", digest: "abc", dimensions: 768, profile: "nomic/1" };

function clientFor(dependencies: Partial<ServerServiceDependencies> = {}) {
  const transport = createRouterTransport(({ service }) =>
    service(
      ServerService,
      createServerService({
        version: "1.2.3",
        engine: "postgres",
        engineVersion: "18.1",
        defaultDomain: "work",
        createDomains: true,
        authentication: false,
        model: "nomic-embed-text",
        embedder: { status: () => ({ available: true, reason: "" }), space: () => space },
        contents: { current: async () => ({ version: 7, dimensions: 768 }) },
        textRanker: "bm25_sql",
        ...dependencies,
      }),
    ),
  );
  return createClient(ServerService, transport);
}

test("returns the version, the engine and the default domain", async () => {
  expect(await clientFor().getServerInfo({})).toMatchObject({
    version: "1.2.3",
    engine: Engine.POSTGRES,
    engineVersion: "18.1",
    defaultDomain: "work",
  });
  const embedded = await clientFor({ engine: "embedded" }).getServerInfo({});
  expect(embedded.engine).toBe(Engine.EMBEDDED);
});

test("returns the limits that the proto comments document", async () => {
  const { limits } = await clientFor().getServerInfo({});
  expect(limits).toMatchObject({
    contentBytes: 1_048_576,
    queryBytes: 8_192,
    idCharacters: 50,
    domainCharacters: 40,
    sourceCharacters: 256,
    tags: 64,
    tagCharacters: 64,
    metadataBytes: 65_536,
    metadataDepth: 16,
    searchLimit: 1_000,
    streamSearchLimit: 10_000,
    searchDomains: 16,
    pageSize: 1_000,
    batchItems: 1_000,
    filterDepth: 8,
    filterConditions: 128,
    messageBytes: 4_194_304,
    domains: 0,
  });
});

test("returns the maximum number of domains", async () => {
  expect((await clientFor({ maxDomains: 7 }).getServerInfo({})).limits?.domains).toBe(7);
});

test.each([true, false])(
  "returns whether Store creates domains (%s), and the text ranker",
  async (createDomains) => {
    const { features } = await clientFor({ createDomains }).getServerInfo({});
    expect(features).toMatchObject({
      createDomains,
      textRanker: SearchInfo_TextRanker.BM25_SQL,
      authentication: false,
    });
  },
);

test("returns the configured model and the current embedding version", async () => {
  const { embedder } = await clientFor().getServerInfo({});
  expect(embedder).toMatchObject({
    model: "nomic-embed-text",
    available: true,
    version: {
      version: 7,
      model: "nomic-embed-text:latest",
      modelDigest: "abc",
      dimensions: 768,
      profile: "nomic/1",
    },
  });
});

test("returns no embedding version if the embedder has never answered", async () => {
  const { embedder } = await clientFor({
    embedder: { status: () => ({ available: false, reason: "unreachable" }), space: () => undefined },
    contents: { current: async () => undefined },
  }).getServerInfo({});
  expect(embedder).toMatchObject({ model: "nomic-embed-text", available: false });
  expect(embedder?.version).toBeUndefined();
});

test.each([
  ["fails", () => Promise.reject(new Error("unreachable"))],
  ["does not answer", () => new Promise<never>(() => {})],
])("answers without the version's number when the database %s", async (_, current) => {
  const { embedder } = await clientFor({ contents: { current } }).getServerInfo({});
  expect(embedder?.version).toMatchObject({ version: 0, model: "nomic-embed-text:latest" });
});

test("the program's version is the one in package.json", () => {
  expect(readVersion()).toMatch(/^\d+\.\d+\.\d+/);
});
