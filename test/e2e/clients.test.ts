import { fileURLToPath } from "node:url";
import { create, type JsonObject, toJson } from "@bufbuild/protobuf";
import { type Code, ConnectError, createClient, type Transport } from "@connectrpc/connect";
import { codeToString } from "@connectrpc/connect/protocol-connect";
import {
  createConnectTransport,
  createGrpcTransport,
  createGrpcWebTransport,
} from "@connectrpc/connect-node";
import { type Client, credentials, loadPackageDefinition, type ServiceError } from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";
import {
  MemoryService,
  SearchRequestSchema,
  SearchResponseSchema,
  StoreRequestSchema,
  StoreResponseSchema,
  StreamSearchRequestSchema,
  StreamSearchResponseSchema,
} from "memory-service-client/memoryservice/v1/memory_service_pb.js";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type FakeOllama, startFakeOllama } from "../../qa/fakes/ollama/index.ts";
import { collect } from "../support/collect.ts";
import type { ServerData } from "../support/postgres/data-directory.ts";
import { serverEngines } from "../support/server/server-engines.ts";
import { type ServerProcess, startServerProcess } from "../support/server/server-process.ts";

interface StoreFields {
  readonly domain: string;
  readonly id: string;
  readonly content: string;
  readonly source: string;
  readonly importance: number;
  readonly tags: string[];
}

interface SearchFields {
  readonly domain: string;
  readonly query: string;
  readonly limit: number;
}

/** One way to call the server. Answers have protobuf's JSON form; failures are the name of their code. */
interface Caller {
  store(request: StoreFields): Promise<JsonObject | string>;
  search(request: SearchFields): Promise<JsonObject | string>;
  streamSearch(request: SearchFields): Promise<JsonObject[] | string>;
  close(): void;
}

const callers: Readonly<Record<string, (url: string) => Caller>> = {
  "plain fetch with JSON": fetchCaller,
  "@grpc/grpc-js with proto-loader": grpcJsCaller,
  "the generated client over gRPC": (baseUrl) => generatedCaller(createGrpcTransport({ baseUrl })),
  "the generated client over Connect on HTTP/1.1": (baseUrl) =>
    generatedCaller(createConnectTransport({ baseUrl, httpVersion: "1.1" })),
  "the generated client over Connect on HTTP/2": (baseUrl) =>
    generatedCaller(createConnectTransport({ baseUrl, httpVersion: "2" })),
  "the generated client over Connect with JSON": (baseUrl) =>
    generatedCaller(createConnectTransport({ baseUrl, httpVersion: "1.1", useBinaryFormat: false })),
  "the generated client over gRPC-Web": (baseUrl) =>
    generatedCaller(createGrpcWebTransport({ baseUrl, httpVersion: "1.1" })),
};

describe.each(serverEngines())("on $name", ({ create: createData }) => {
  let ollama: FakeOllama;
  let data: ServerData;
  let server: ServerProcess;

  beforeAll(async () => {
    ollama = await startFakeOllama();
    data = await createData();
    server = await startServerProcess({ env: { ...data.env, OLLAMA_API_URL: ollama.url } });
  });

  afterAll(async () => {
    await server[Symbol.asyncDispose]();
    await data[Symbol.asyncDispose]();
    await ollama.close();
  });

  test.each(Object.entries(callers))("%s stores, searches and streams", async (name, open) => {
    // A separate domain with the same memories, so every client must get the same results.
    const domain = `clients_${Object.keys(callers).indexOf(name)}`;
    const caller = open(server.url);
    try {
      const funding = {
        domain,
        id: "funding",
        content: "Series A funding round completed",
        source: "meeting_notes",
        importance: 0.9,
        tags: ["finance", "2026"],
      };
      const lunch = { ...funding, id: "lunch", content: "Lunch is at noon – 12:00 ☕", tags: [] };
      expect(await caller.store(funding)).toMatchObject({
        outcome: "STORE_OUTCOME_CREATED",
        memory: { ...funding, embedding: { state: "STATE_READY" } },
      });
      expect(await caller.store(lunch)).toMatchObject({ memory: { content: lunch.content } });
      expect(await caller.store(funding)).toMatchObject({ outcome: "STORE_OUTCOME_UNCHANGED" });
      expect(await caller.store({ ...funding, content: "Series B" })).toBe("already_exists");

      const search = { domain, query: "funding strategy", limit: 2 };
      const hits = [
        // The best hit of both legs. The other is the farthest in the semantic leg: JSON omits its score of 0.
        { memory: funding, score: expect.closeTo(1, 5) },
        { memory: { content: lunch.content } },
      ];
      const info = { modeUsed: "SEARCH_MODE_HYBRID", limitFilled: true };
      expect(await caller.search(search)).toMatchObject({ hits, info });
      expect(await caller.streamSearch(search)).toMatchObject([
        { info },
        { hit: hits[0] },
        { hit: hits[1] },
        { summary: { sent: 2 } },
      ]);
      expect(await caller.search({ ...search, limit: -1 })).toBe("invalid_argument");
      expect(await caller.search({ ...search, domain: "nowhere" })).toBe("not_found");
      expect(await caller.streamSearch({ ...search, domain: "nowhere" })).toBe("not_found");
    } finally {
      caller.close();
    }
  });
});

function generatedCaller(transport: Transport): Caller {
  const client = createClient(MemoryService, transport);
  const codeOf = (error: unknown) => codeToString(ConnectError.from(error).code);
  return {
    store: (request) =>
      client
        .store(create(StoreRequestSchema, request))
        .then((answer) => toJson(StoreResponseSchema, answer) as JsonObject, codeOf),
    search: (request) =>
      client
        .search(create(SearchRequestSchema, request))
        .then((answer) => toJson(SearchResponseSchema, answer) as JsonObject, codeOf),
    async streamSearch(request) {
      try {
        const answers: JsonObject[] = [];
        for await (const answer of client.streamSearch(create(StreamSearchRequestSchema, request))) {
          answers.push(toJson(StreamSearchResponseSchema, answer) as JsonObject);
        }
        return answers;
      } catch (error) {
        return codeOf(error);
      }
    },
    close() {},
  };
}

/** Sends what curl would send. */
function fetchCaller(url: string): Caller {
  const post = (method: string, contentType: string, body: string | Uint8Array) =>
    fetch(`${url}/${MemoryService.typeName}/${method}`, {
      method: "POST",
      headers: { "content-type": contentType },
      body: new Uint8Array(Buffer.from(body)),
    });
  const unary = async (method: string, request: object): Promise<JsonObject | string> => {
    const response = await post(method, "application/json", JSON.stringify(request));
    const answer = (await response.json()) as JsonObject;
    return response.ok ? answer : String(answer.code);
  };
  return {
    store: (request) => unary("Store", request),
    search: (request) => unary("Search", request),
    async streamSearch(request) {
      const json = Buffer.from(JSON.stringify(request));
      const head = Buffer.alloc(5);
      head.writeUInt32BE(json.length, 1);
      const response = await post("StreamSearch", "application/connect+json", Buffer.concat([head, json]));
      const answers: JsonObject[] = [];
      let rest = Buffer.from(await response.arrayBuffer());
      while (rest.length > 0) {
        const end = 5 + rest.readUInt32BE(1);
        const message = JSON.parse(rest.subarray(5, end).toString());
        if (rest[0] === 2) return message.error?.code ?? answers;
        answers.push(message);
        rest = rest.subarray(end);
      }
      throw new Error("the stream has no end");
    },
    close() {},
  };
}

type Unary = (request: object, answered: (error: ServiceError | null, answer: JsonObject) => void) => void;

/** The client that knows only the .proto files. */
function grpcJsCaller(url: string): Caller {
  const protos = loadSync("memoryservice/v1/memory_service.proto", {
    includeDirs: [fileURLToPath(new URL("../../proto", import.meta.url))],
    enums: String,
    longs: String,
  });
  const { memoryservice } = loadPackageDefinition(protos) as unknown as {
    readonly memoryservice: { readonly v1: { readonly MemoryService: typeof Client } };
  };
  const client = new memoryservice.v1.MemoryService(new URL(url).host, credentials.createInsecure());
  const methods = client as unknown as {
    readonly store: Unary;
    readonly search: Unary;
    streamSearch(request: object): AsyncIterable<JsonObject>;
  };
  const codeOf = (error: unknown) => codeToString((error as ServiceError).code as number as Code);
  const unary = (method: Unary, request: object) =>
    new Promise<JsonObject | string>((resolve) => {
      method.call(client, request, (error, answer) => resolve(error === null ? answer : codeOf(error)));
    });
  return {
    store: (request) => unary(methods.store, request),
    search: (request) => unary(methods.search, request),
    async streamSearch(request) {
      try {
        return await collect(methods.streamSearch(request));
      } catch (error) {
        return codeOf(error);
      }
    },
    close: () => client.close(),
  };
}
