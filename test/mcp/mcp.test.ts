import { readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { Client } from "@modelcontextprotocol/client";
import { StdioClientTransport } from "@modelcontextprotocol/client/stdio";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { type FakeOllama, startFakeOllama } from "../../qa/fakes/ollama/index.ts";
import type { ServerData } from "../support/postgres/data-directory.ts";
import { embeddedServers, type ServerEngine, serverEngines } from "../support/server/server-engines.ts";
import {
  openGrpcClient,
  runProgram,
  type ServerProcess,
  startServerProcess,
} from "../support/server/server-process.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";

vi.setConfig({ testTimeout: 120_000 });

const main = fileURLToPath(new URL("../../src/main.ts", import.meta.url));
const fakeOldServer = fileURLToPath(new URL("../../qa/fakes/old-mcp-server.ts", import.meta.url));

let ollama: FakeOllama;
beforeAll(async () => {
  ollama = await startFakeOllama();
});
afterAll(async () => await ollama?.close());

/** Starts the adapter as an MCP client does, and connects that client. */
async function startAdapter(
  args: readonly string[],
  env: Readonly<Record<string, string>>,
  versions?: "auto",
) {
  const transport = new StdioClientTransport({
    command: process.execPath,
    args: [main, "mcp", ...args],
    env: { PATH: process.env.PATH ?? "", OLLAMA_API_URL: ollama.url, ...env },
    stderr: "pipe",
  });
  let stderr = "";
  transport.stderr?.on("data", (bytes: Buffer) => {
    stderr += bytes.toString();
  });
  const errors: Error[] = [];
  const client = new Client(
    { name: "test", version: "1" },
    versions === undefined ? {} : { versionNegotiation: { mode: versions } },
  );
  client.onerror = (error) => errors.push(error);
  try {
    await client.connect(transport);
  } catch (error) {
    throw new Error(stderr, { cause: error });
  }
  const call = async (name: string, given: Record<string, unknown> = {}) => {
    const answer = await client.callTool({ name, arguments: given });
    const [block] = answer.content;
    const text = block?.type === "text" ? block.text : "";
    if (answer.isError === true) throw new Error(text);
    const { result } = answer.structuredContent as { result: unknown };
    // The text and the structured content are equal.
    expect(typeof result === "string" ? text : JSON.parse(text)).toEqual(result);
    return result;
  };
  return {
    client,
    call,
    search: async (given: Record<string, unknown>) =>
      (await call("search_memories", given)) as {
        id: string;
        content: string;
        metadata: object;
        score: number;
      }[],
    stderr: () => stderr,
    /** Lines on standard output that are not protocol messages. */
    errors,
    pid: transport.pid,
    close: () => client.close(),
    [Symbol.asyncDispose]: () => client.close(),
  };
}

type Adapter = Awaited<ReturnType<typeof startAdapter>>;

interface Way {
  readonly name: string;
  open(): Promise<{ readonly adapter: Adapter; close(): Promise<void> }>;
}

/** Opens the memories in this process, and through a running server. */
function waysOf(engine: ServerEngine): Way[] {
  return [
    {
      name: `in this process on ${engine.name}`,
      async open() {
        const data: ServerData = await engine.create();
        const adapter = await startAdapter(["--map", "Health=health"], data.env);
        return {
          adapter,
          close: async () => {
            await adapter.close();
            await data[Symbol.asyncDispose]();
          },
        };
      },
    },
    {
      name: `for a server on ${engine.name}`,
      async open() {
        const data = await engine.create();
        const server: ServerProcess = await startServerProcess({
          env: { ...data.env, OLLAMA_API_URL: ollama.url },
        });
        const adapter = await startAdapter(["--server", server.url, "--map", "Health=health"], {}, "auto");
        return {
          adapter,
          close: async () => {
            await adapter.close();
            await server[Symbol.asyncDispose]();
            await data[Symbol.asyncDispose]();
          },
        };
      },
    },
  ];
}

describe.each(serverEngines().flatMap(waysOf))("$name", ({ open }) => {
  let adapter: Adapter;
  let close: () => Promise<void>;
  beforeAll(async () => {
    ({ adapter, close } = await open());
  });
  afterAll(async () => await close?.());

  test("has the tools, resources and prompt of the old server, with its parameters and defaults", async () => {
    const { tools } = await adapter.client.listTools();
    const described = tools.map(({ name, inputSchema }) => [
      name,
      Object.keys(inputSchema.properties ?? {}),
      inputSchema.required ?? [],
    ]);
    expect(described).toEqual([
      ["store_memory", ["content", "domain", "source", "importance"], ["content"]],
      ["update_memory", ["memory_id", "content", "importance", "domain"], ["memory_id"]],
      ["search_memories", ["query", "domain", "limit", "use_vector"], ["query"]],
      ["list_memory_domains", [], []],
    ]);
    const search = tools.find(({ name }) => name === "search_memories");
    expect(search?.inputSchema.properties).toMatchObject({
      limit: { default: 5 },
      use_vector: { default: true },
    });
    const { resourceTemplates } = await adapter.client.listResourceTemplates();
    expect(resourceTemplates.map(({ uriTemplate }) => uriTemplate)).toEqual([
      "memory://{query}",
      "memory://{domain}/{query}",
    ]);
    const { prompts } = await adapter.client.listPrompts();
    expect(prompts).toMatchObject([
      { name: "summarize_memories", arguments: [{ name: "memories", required: true }] },
    ]);
  });

  test("stores, searches, updates and lists domains", async () => {
    const { call, search } = adapter;
    const id = await call("store_memory", { content: "The doctor is ill", source: "call", importance: 0.8 });
    expect(id).toMatch(/^mem_/);
    await call("store_memory", {
      content: "Parking costs two euros",
      domain: null,
      source: null,
      importance: null,
    });
    await call("store_memory", { content: "Blood pressure is fine", domain: "Health" });

    const [first, second, ...more] = await search({ query: "The physician is unwell" });
    expect([second?.content, more]).toEqual(["Parking costs two euros", []]);
    expect(first).toEqual({
      id,
      content: "The doctor is ill",
      metadata: {
        source: "call",
        importance: 0.8,
        created_at: expect.closeTo(Date.now() / 1_000, -2),
        updated_at: expect.closeTo(Date.now() / 1_000, -2),
      },
      score: expect.any(Number),
      query: "The physician is unwell",
    });
    expect(first?.score).toBeGreaterThan(second?.score ?? 1);
    expect(await search({ query: "physician", use_vector: false })).toEqual([]);
    expect(await search({ query: "doctor", use_vector: false })).toMatchObject([{ id }]);
    expect(await search({ query: "pressure", domain: "Health", limit: 1 })).toMatchObject([
      { content: "Blood pressure is fine" },
    ]);

    expect(await call("update_memory", { memory_id: id, content: "The doctor is back" })).toBe(true);
    expect(await call("update_memory", { memory_id: id, importance: 0.1 })).toBe(true);
    expect(await call("update_memory", { memory_id: id })).toBe(true);
    expect(await call("update_memory", { memory_id: "mem_0", content: "x" })).toBe(false);
    expect(await call("update_memory", { memory_id: "mem_0" })).toBe(false);
    expect(await call("update_memory", { memory_id: id, content: "x", domain: "nowhere" })).toBe(false);
    expect(await search({ query: "doctor", limit: 1 })).toMatchObject([
      { id, content: "The doctor is back", metadata: { source: "call", importance: 0.1 } },
    ]);
    expect(await call("list_memory_domains")).toEqual(["default", "health"]);
  });

  test.each([
    [null, 2],
    [0, 0],
    [-1, 2],
    [1, 1],
    [1.9, 1],
    [1e9, 2],
    [undefined, 2],
  ])("returns for a limit of %s so many: %i", async (limit, count) => {
    expect(await adapter.search({ query: "doctor", ...(limit === undefined ? {} : { limit }) })).toHaveLength(
      count,
    );
  });

  test("finds nothing in a domain that does not exist, and the newest memories without a query", async () => {
    expect(await adapter.search({ query: "doctor", domain: "nowhere" })).toEqual([]);
    const newest = await adapter.search({ query: "", limit: 1 });
    expect(newest).toMatchObject([{ content: "The doctor is back", score: 0 }]);
  });

  test.each([
    ["memory://parking%20costs", "Parking costs two euros"],
    ["memory://default/what%20does%20parking%20cost%3F", "Parking costs two euros"],
    ["memory://Health/blood%2Fpressure", "Blood pressure is fine"],
  ])("reads %s", async (uri, content) => {
    const { contents } = await adapter.client.readResource({ uri });
    expect(contents).toMatchObject([{ uri, mimeType: "text/plain" }]);
    const [first] = JSON.parse(contents[0] !== undefined && "text" in contents[0] ? contents[0].text : "");
    expect(first).toMatchObject({ id: expect.stringMatching(/^mem_/), content, score: expect.any(Number) });
  });

  test("asks for a summary", async () => {
    const memories = JSON.stringify([{ content: "Likes tea" }, { content: "Lives in Rome" }]);
    const { messages } = await adapter.client.getPrompt({
      name: "summarize_memories",
      arguments: { memories },
    });
    expect(messages).toMatchObject([
      {
        role: "user",
        content: { text: expect.stringContaining("Memory 1: Likes tea\nMemory 2: Lives in Rome\n") },
      },
    ]);
  });

  test.each([
    ["store_memory", { content: "" }, "content"],
    ["store_memory", { content: "x", domain: "No Name" }, "domain"],
    ["store_memory", { content: "x", importance: 17.5 }, "importance"],
    ["store_memory", {}, "content"],
    ["search_memories", { query: 5 }, "query"],
  ])("describes the problem of %s %j", async (name, given, field) => {
    await expect(adapter.call(name, given)).rejects.toThrow(field);
  });

  test("stores any text unchanged and writes only the protocol to standard output", async () => {
    const content = "line\r\n\u2028 \u0001 „日本“ 🌱 </script> ".repeat(2_000);
    const id = await adapter.call("store_memory", { content, domain: "texts" });
    expect(await adapter.search({ query: "日本", domain: "texts" })).toMatchObject([{ id, content }]);
    expect(adapter.errors).toEqual([]);
  });
});

test.each(embeddedServers())(
  "ends with its client, and leaves what was stored, on $name",
  async ({ create }) => {
    await using data = await create();
    const first = await startAdapter([], data.env);
    const id = await first.call("store_memory", { content: "The lift is out of order" });
    await first.close();
    await using second = await startAdapter([], data.env);
    expect(await second.search({ query: "lift" })).toMatchObject([{ id }]);
    // Only one process at a time can open the directory.
    const third = await runProgram(["mcp"], { env: data.env, stdin: "" });
    expect(third).toMatchObject({
      code: 1,
      stdout: "",
      stderr: expect.stringMatching(/^memory-service: .*\n$/),
    });
  },
);

const oldVersions = embeddedServers().flatMap(({ create }) =>
  ["sqlite", "postgres"].map((version) => ({ version, create })),
);

describe.each(oldVersions)("beside an old server on $version", ({ version, create }) => {
  const also = `${process.execPath} ${fakeOldServer} ${version}`;
  let directory: Awaited<ReturnType<typeof temporaryDirectory>>;
  let data: ServerData;
  let server: ServerProcess;
  beforeAll(async () => {
    directory = await temporaryDirectory();
    data = await create();
    server = await startServerProcess({ env: { ...data.env, OLLAMA_API_URL: ollama.url } });
  });
  afterAll(async () => {
    await server?.[Symbol.asyncDispose]();
    await data?.[Symbol.asyncDispose]();
    await directory?.remove();
  });
  const start = async (readFrom: string) =>
    await startAdapter(["--server", server.url, "--also", also, "--read-from", readFrom], {
      OLD_MEMORIES: join(directory.path, "old.json"),
    });
  const oldMemories = () =>
    JSON.parse(readFileSync(join(directory.path, "old.json"), "utf8")) as { id: string; content: string }[];

  test("writes to both servers under one id and reads from the selected one", async () => {
    using grpc = openGrpcClient(server.url);
    await using reader = await start("old");
    const id = String(await reader.call("store_memory", { content: "The doctor is ill", source: "call" }));
    expect(oldMemories()).toMatchObject([{ id, content: "The doctor is ill" }]);
    expect((await grpc.client.get({ id })).memory).toMatchObject({
      content: "The doctor is ill",
      source: "call",
    });
    expect(await reader.search({ query: "doctor" })).toMatchObject([
      { id, metadata: { created_at: 1.5 }, score: version === "sqlite" ? 0.4 : 0.6 },
    ]);
    expect(await reader.search({ query: "physician" })).toEqual([]);
    expect(await reader.call("list_memory_domains")).toEqual(["default"]);
    await reader.call("store_memory", { content: "Another doctor" });
    expect(await reader.search({ query: "doctor" })).toHaveLength(2);

    expect(await reader.call("update_memory", { memory_id: id, content: "The doctor is back" })).toBe(true);
    expect(oldMemories()[0]).toMatchObject({ content: "The doctor is back" });
    await using newReader = await start("new");
    expect(await newReader.search({ query: "The physician is back", limit: 1 })).toMatchObject([
      { id, content: "The doctor is back" },
    ]);
    expect(await newReader.call("update_memory", { memory_id: "mem_0" })).toBe(false);
  });

  test("succeeds if only the other side fails, and logs the failure", async () => {
    await using reader = await start("new");
    for (const content of ["refuse", "die", "The lift is out of order"]) {
      const id = await reader.call("store_memory", { content });
      expect(await reader.search({ query: content, limit: 1 })).toMatchObject([{ id, content }]);
    }
    expect(oldMemories().at(-1)).toMatchObject({ content: "The lift is out of order" });
    expect(reader.stderr()).toContain("store_memory failed on the side that is not read from");

    await using oldReader = await start("old");
    await expect(oldReader.call("store_memory", { content: "refuse" })).rejects.toThrow("database is locked");
    const id = await oldReader.call("store_memory", { content: "x", importance: 17.5 });
    expect(oldMemories().at(-1)).toMatchObject({ id });
  });
});
