import { createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { DomainService } from "memory-service-client/memoryservice/v1/domain_service_pb.js";
import { Memory_Embedding_State as State } from "memory-service-client/memoryservice/v1/memory_pb.js";
import { MemoryService, SearchMode } from "memory-service-client/memoryservice/v1/memory_service_pb.js";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { type FakeOllama, startFakeOllama } from "../../qa/fakes/ollama/index.ts";
import { readConfig } from "../../src/app/config.ts";
import { startApp } from "../../src/app/start-app.ts";
import { errorOf } from "../support/in-process/service.ts";
import type { ServerData } from "../support/postgres/data-directory.ts";
import { serverEngines } from "../support/server/server-engines.ts";
import { silentLogger } from "../support/silent-logger.ts";

// Generous for a busy machine: each test takes seconds when run alone.
vi.setConfig({ testTimeout: 120_000, hookTimeout: 120_000 });

describe.each(serverEngines())("domains with their own model on $name", ({ create }) => {
  let data: ServerData;
  let ollama: FakeOllama;

  beforeAll(async () => {
    [data, ollama] = await Promise.all([create(), startFakeOllama()]);
  });
  afterAll(async () => {
    await ollama?.close();
    await data?.[Symbol.asyncDispose]();
  });

  const start = async (env: Readonly<Record<string, string>> = {}) => {
    const app = await startApp(
      readConfig({
        ...data.env,
        ...env,
        MEMORY_PORT: "0",
        OLLAMA_API_URL: ollama.url,
        MEMORY_PULL_MODEL: "false",
        MEMORY_EMBED_BUDGET_MS: "30000",
      }),
      silentLogger,
    );
    const transport = createGrpcTransport({ baseUrl: app.url });
    return {
      domains: createClient(DomainService, transport),
      memories: createClient(MemoryService, transport),
      close: () => app.close(),
    };
  };

  test("are embedded and searched with it next to other domains, also after a restart", async () => {
    const first = await start();
    try {
      await first.domains.createDomain({ name: "small", embeddingModel: "all-minilm" });
      await first.domains.createDomain({ name: "short", dimensions: 256 });
      for (const domain of ["small", "short", "default"]) {
        const { memory } = await first.memories.store({ domain, id: "m", content: "a physician is unwell" });
        expect(memory?.embedding?.state).toBe(State.READY);
      }
      // The background worker embeds this one.
      await first.memories.store({
        domain: "small",
        id: "later",
        content: "parking costs two euros",
        embeddingMode: 2,
      });
    } finally {
      await first.close();
    }
    const second = await start();
    try {
      for (const [name, model, dimensions] of [
        ["small", "all-minilm:latest", 384],
        ["short", "nomic-embed-text:latest", 256],
        ["default", "nomic-embed-text:latest", 768],
      ] as const) {
        const { domain } = await second.domains.getDomain({ name });
        expect(domain?.embeddingVersion).toMatchObject({ model, dimensions });
        const { hits, info } = await second.memories.search({
          domain: name,
          query: "a physician is unwell",
          mode: SearchMode.SEMANTIC,
          limit: 1,
        });
        expect(info?.embeddingVersion).toBe(domain?.embeddingVersion?.version);
        expect(hits[0]?.memory?.id).toBe("m");
      }
      for (;;) {
        const { memory } = await second.memories.get({ domain: "small", id: "later" });
        if (memory?.embedding?.state === State.READY) break;
      }
      const again = { name: "small", embeddingModel: "all-minilm" };
      expect((await second.domains.createDomain(again)).created).toBe(false);
      expect(await errorOf(second.domains.createDomain({ name: "small" }))).toMatchObject({
        reason: "DOMAIN_ALREADY_EXISTS",
        metadata: { fields: "embedding_model" },
      });
    } finally {
      await second.close();
    }
  });

  test("use the profile configured for the model, with a separate embedding version", async () => {
    const profiles = { "all-minilm": { query_prefix: "ask: ", document_prefix: "note: ", clean_up: "none" } };
    const server = await start({ MEMORY_MODEL_PROFILES: JSON.stringify(profiles) });
    try {
      const domain = "profiled";
      await server.domains.createDomain({ name: domain, embeddingModel: "all-minilm" });
      await server.memories.store({ domain, id: "m", content: "A physician is unwell" });
      await server.memories.search({ domain, query: "Who is unwell", mode: SearchMode.SEMANTIC });
      const sent = ollama.requests.map(({ json }) => JSON.stringify(json) ?? "");
      expect(sent.some((body) => body.includes('"note: A physician is unwell"'))).toBe(true);
      expect(sent.some((body) => body.includes('"ask: Who is unwell"'))).toBe(true);
      const state = await server.domains.getDomain({ name: domain });
      expect(state.domain?.embeddingVersion?.profile).toMatch(/^minilm\/1\+[0-9a-f]{8}$/);
    } finally {
      await server.close();
    }
  });

  test("are refused without a trace if the embedder cannot produce such embeddings", async () => {
    const server = await start();
    try {
      for (const [request, field, description] of [
        [{ embeddingModel: "no-such-model" }, "embedding_model", /no-such-model.* is not available/],
        [{ dimensions: 2_000 }, "dimensions", /has 768 dimensions and cannot produce 2000/],
        [{ dimensions: 300 }, "dimensions", /cannot produce 300; allowed: 768, 512, 256, 128, 64$/],
      ] as const) {
        const error = await errorOf(server.domains.createDomain({ name: "refused", ...request }));
        expect(error.violations).toEqual([{ field, description: expect.stringMatching(description) }]);
      }
      expect(await errorOf(server.domains.getDomain({ name: "refused" }))).toMatchObject({
        reason: "DOMAIN_NOT_FOUND",
      });
    } finally {
      await server.close();
    }
  });
});
