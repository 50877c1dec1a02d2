import { createClient } from "@connectrpc/connect";
import { context, type Span, SpanStatusCode, trace } from "@opentelemetry/api";
import { MemoryService } from "memory-service-client/memoryservice/v1/memory_service_pb.js";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { type FakeOllama, startFakeOllama } from "../../qa/fakes/ollama/index.ts";
import { readConfig } from "../../src/app/config.ts";
import { type App, startApp } from "../../src/app/start-app.ts";
import { traceDatabase } from "../../src/observability/trace-database.ts";
import type { Database } from "../../src/storage/database/database.ts";
import { grpcTransport, send, sendJson } from "../server/harness.ts";
import { createDataDirectory, type DataDirectory } from "../support/postgres/data-directory.ts";
import { databaseEngines, empty } from "../support/postgres/databases.ts";
import { silentLogger } from "../support/silent-logger.ts";
import { registerTracing, type SpanTree, type TestTracing } from "./tracing.ts";

let tracing: TestTracing;

beforeAll(() => {
  tracing = registerTracing();
});
afterEach(() => tracing.reset());
afterAll(() => tracing.remove());

const leaf = (name: string): SpanTree => ({ name, children: [] });

describe.each(databaseEngines(empty))("a traced database on $name", ({ open }) => {
  let database: Database;

  beforeAll(async () => {
    database = traceDatabase(await open(), tracing.tracer);
  });
  afterAll(() => database?.close());

  /** Runs `work` below a span `call`. */
  async function inCall<T>(work: () => Promise<T>): Promise<T> {
    const span: Span = tracing.tracer.startSpan("call");
    try {
      return await context.with(trace.setSpan(context.active(), span), work);
    } finally {
      span.end();
    }
  }

  test("creates spans for statements and their transaction", async () => {
    await inCall(async () => {
      await database.query({ name: "count_things:work", text: "select 1 as one" });
      await database.transaction(async (transaction) => {
        await transaction.execute("set local work_mem = '8MB'");
        await transaction.query({ text: "select 2 as two" });
      });
    });
    expect(tracing.trees()).toEqual([
      {
        name: "call",
        children: [
          leaf("sql count_things"),
          { name: "sql transaction", children: [leaf("sql script"), leaf("sql select")] },
        ],
      },
    ]);
    const [first] = tracing.spans();
    expect(first?.attributes).toEqual({
      "db.system.name": "postgresql",
      "memory_service.domain": "work",
    });
  });

  test("marks a failed statement with its SQLSTATE, without its text and values", async () => {
    const failing = { text: "select $1::integer as secret_column" };
    await expect(inCall(() => database.query(failing, ["secret value"]))).rejects.toThrow();
    const [span] = tracing.spans();
    expect(span?.attributes["error.type"]).toBe("22P02");
    expect(span?.status).toEqual({ code: SpanStatusCode.ERROR });
    expect(JSON.stringify([span?.name, span?.attributes, span?.events])).not.toContain("secret");
  });

  test("creates no spans for work outside a call", async () => {
    await database.query({ text: "select 1" });
    expect(tracing.spans()).toEqual([]);
  });
});

describe("a whole server", () => {
  let app: App;
  let ollama: FakeOllama;
  let data: DataDirectory;

  beforeAll(async () => {
    ollama = await startFakeOllama();
    data = await createDataDirectory();
    app = await startApp(
      readConfig({ MEMORY_PORT: "0", ...data.env, OLLAMA_API_URL: ollama.url }),
      silentLogger,
    );
  });
  afterAll(async () => {
    await app?.close();
    await ollama?.close();
    await data?.[Symbol.asyncDispose]();
  });

  const metric = async (line: string) =>
    (await send(`${app.url}/metrics`)).text.split("\n").find((found) => found.startsWith(`${line} `));

  test("has spans from the call down to the statement and the embedding", async () => {
    const memories = createClient(MemoryService, grpcTransport(app.url));
    await expect.poll(() => metric("memory_service_embedder_available")).toMatch(/ 1$/);
    await memories.store({ content: "the boiler is in the cellar" });
    tracing.reset();
    for await (const _ of memories.streamSearch({ query: "boiler" }));
    await expect
      .poll(() => tracing.trees().map(({ name }) => name))
      .toEqual(["memoryservice.v1.MemoryService/StreamSearch"]);
    const [call] = tracing.trees();
    const names = call?.children.map(({ name }) => name);
    expect(names).toContain("embed");
    expect(names).toContain("sql text_index");
    expect(names).toContain("sql nearest");
    expect(names?.at(-1)).toBe("sql fetch_memories");
    const embed = tracing.spans().find(({ name }) => name === "embed");
    expect(embed?.attributes).toEqual({
      "gen_ai.operation.name": "embeddings",
      "gen_ai.request.model": "nomic-embed-text:latest",
      "memory_service.embedding.role": "query",
      "memory_service.embedding.texts": 1,
    });
  });

  test("counts its calls", async () => {
    const store = `${app.url}/memoryservice.v1.MemoryService/Store`;
    await sendJson(store, '{"content":"later","embeddingMode":"EMBEDDING_MODE_BACKGROUND"}');
    await expect
      .poll(() => metric('memory_service_background_embeddings_total{outcome="embedded"}'))
      .toMatch(/ 1$/);
    expect(await metric('memory_service_embed_texts_total{role="query"}')).toMatch(/ 1$/);
    expect(await metric('memory_service_pending_memories{domain="default"}')).toMatch(/ \d+$/);
    expect(await metric("memory_service_database_connections")).toMatch(/ 1$/);
  });
});
