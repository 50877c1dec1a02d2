import { chmod, mkdir, readdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { Client } from "@modelcontextprotocol/client";
import { StdioClientTransport } from "@modelcontextprotocol/client/stdio";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { type FakeOllama, startFakeOllama } from "../../qa/fakes/ollama/index.ts";
import { openPostgresDatabase } from "../../src/storage/database/server/postgres-database.ts";
import { writeLegacyDirectory } from "../legacy/write-directory.ts";
import { blockOf, blocksOf, readPage, root, runShell } from "../support/documents.ts";
import { makeOldDomains } from "../support/postgres/old-postgres.ts";
import { installPostgresTools } from "../support/postgres/postgres-tools.ts";
import { embeddedServers, postgresServers } from "../support/server/server-engines.ts";
import { openGrpcClient, startServerProcess } from "../support/server/server-process.ts";
import { silentLogger } from "../support/silent-logger.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";

// What docs/migration.md says, done as it says and in its order.

vi.setConfig({ testTimeout: 180_000 });

const page = readPage("docs/migration.md");
const blocks = blocksOf(page, "sh");
const [backUp, allAtOnce, again, cutOver, rollBack, dump, copy, inPlace, restore] = blocks;

const texts = [
  "The doctor is ill",
  "Parking costs two euros",
  "The canteen serves soup on Tuesdays",
  "Snow falls in winter",
];

let ollama: FakeOllama;
let directory: Awaited<ReturnType<typeof temporaryDirectory>>;
let bin: string;

beforeAll(async () => {
  ollama = await startFakeOllama();
  directory = await temporaryDirectory();
  bin = join(directory.path, "bin");
  await mkdir(bin);
  await writeFile(
    join(bin, "memory-service"),
    `#!/bin/sh\nexec '${process.execPath}' '${root}/src/main.ts' "$@"\n`,
  );
  await chmod(join(bin, "memory-service"), 0o755);
  await installPostgresTools(bin);
});

afterAll(async () => {
  await ollama?.close();
  await directory?.remove();
});

const environment = () => ({
  PATH: `${bin}:${process.env.PATH}`,
  OLLAMA_API_URL: ollama.url,
  // Of the machine that the tests run on.
  DATABASE_URL: "",
});

test("has no command that is not run here", () => {
  expect(blocks).toHaveLength(9);
  expect(page.text.match(/^ *```\w+$/gm)).toHaveLength(9 + 3);
});

test.each(embeddedServers())(
  "a data directory moves in step by step, and back, on $name",
  async ({ create }) => {
    const old = await writeLegacyDirectory(
      join(directory.path, "old"),
      texts.map((content, n) => ({ id: `mem_175000000000${n}`, content })),
      texts.map((content, n) => ({
        text_id: `mem_175000000000${n}`,
        content,
        vector: [...ollama.embedding(content)],
      })),
    );
    await using data = await create();
    await using server = await startServerProcess({ env: { ...data.env, OLLAMA_API_URL: ollama.url } });
    using grpc = openGrpcClient(server.url);
    const { host, port } = new URL(server.url);
    const env = { ...environment(), OLD_DATA: old, MEMORY_PORT: port };
    const run = async (code = "") => await runShell(code, { directory: directory.path, env });
    const insertIntoOld = (id: string, content: string) => {
      using database = new DatabaseSync(join(old, "memory.db"));
      const now = Date.now() / 1_000;
      database
        .prepare("insert into memories values (?, ?, ?, ?, ?)")
        .run(id, content, `{"created_at": ${now}, "updated_at": ${now}}`, now, now);
    };
    const contentOf = async (id: string) => (await grpc.client.get({ id })).memory?.content;
    /** What the block is for a client: its command, arguments and settings. */
    const start = async (block: number, ...replaced: readonly (readonly [string, string])[]) => {
      let json = blockOf(page, "json", block).replaceAll("127.0.0.1:50051", host);
      for (const [was, is] of replaced) json = json.replaceAll(was, is);
      const { command, args, env: own } = JSON.parse(json).mcpServers.memory;
      const client = new Client({ name: "test", version: "1" });
      await client.connect(
        new StdioClientTransport({
          command,
          args,
          env: { ...environment(), MCP_DATA_DIR: old, ...own },
          stderr: "ignore",
        }),
      );
      return {
        call: async (name: string, given: Record<string, unknown>) => {
          const { structuredContent, isError, content } = await client.callTool({ name, arguments: given });
          expect(isError, JSON.stringify(content)).not.toBe(true);
          return (structuredContent as { result: unknown }).result;
        },
        [Symbol.asyncDispose]: () => client.close(),
      };
    };

    await run(backUp);
    expect(await readdir(`${old}-backup`)).toEqual(await readdir(old));
    const said = await run(allAtOnce);
    expect(said).toContain("4 queries: 4 with the same top memory;");
    expect(await contentOf("mem_1750000000002")).toBe(texts[2]);

    const fake = `'${process.execPath}' '${root}/qa/fakes/old-mcp-server.ts' sqlite`;
    const oldCommand = ["/home/me/local-memory-mcp/run_sqlite.sh", fake] as const;
    let both: string;
    {
      await using adapter = await start(2, oldCommand);
      both = String(
        await adapter.call("store_memory", { content: "The lift is out of order", source: "notice" }),
      );
      expect(await contentOf(both)).toBe("The lift is out of order");
      expect(
        await adapter.call("update_memory", { memory_id: "mem_1750000000001", content: "Parking is free" }),
      ).toBe(true);
      expect(await adapter.call("search_memories", { query: "lift" })).toMatchObject([
        { id: both, score: 0.4 },
      ]);
    }
    insertIntoOld("mem_1750000000009", "Stored by somebody else");
    await run(again);
    expect(await contentOf("mem_1750000000009")).toBe("Stored by somebody else");
    expect((await grpc.client.get({ id: both })).memory).toMatchObject({
      source: "notice",
      metadata: { legacy_import: { version: 2 } },
    });
    {
      await using adapter = await start(2, oldCommand, ['"old"', '"new"']);
      const found = await adapter.call("search_memories", { query: "the physician is unwell", limit: 1 });
      expect(found).toMatchObject([{ content: "The doctor is ill" }]);
      expect(await adapter.call("search_memories", { query: "parking", use_vector: false })).toMatchObject([
        { content: "Parking is free" },
      ]);
    }
    insertIntoOld("mem_1750000000010", "The last one");
    await run(cutOver);
    expect(await contentOf("mem_1750000000010")).toBe("The last one");
    {
      await using adapter = await start(0);
      expect(await adapter.call("search_memories", { query: "lift", limit: 1 })).toMatchObject([
        { id: both },
      ]);
    }
    {
      await using adapter = await start(1, ["/home/me/memories", join(directory.path, "own")]);
      expect(await adapter.call("list_memory_domains", {})).toEqual(["default"]);
    }
    expect(await run(rollBack)).toMatch(/: 1 memor\w+ removed$/m);
    await expect(contentOf("mem_1750000000010")).rejects.toThrow(
      `memory "mem_1750000000010" does not exist in domain "default"`,
    );
    expect(await contentOf("mem_1750000000009")).toBe("Stored by somebody else");
  },
);

describe.each(postgresServers())("on $name", ({ create }) => {
  test("the old PostgreSQL version is copied, taken over in place, and restored", async () => {
    await using old = await create();
    await using target = await create();
    await using empty = await create();
    const databaseOf = async <T>(url: string, text: string) => {
      const database = await openPostgresDatabase({
        connection: { connectionString: url },
        poolSize: 1,
        logger: silentLogger,
      });
      try {
        return (await database.query({ text })) as T;
      } finally {
        await database.close();
      }
    };
    const database = await openPostgresDatabase({
      connection: { connectionString: old.url },
      poolSize: 1,
      logger: silentLogger,
    });
    const created = 1_750_000_000_123_456n;
    await makeOldDomains(database, {
      default: texts.map((content, n) => ({
        id: `m${n}`,
        content,
        embedding: ollama.embedding(content),
        created,
      })),
      Health: [{ id: "h", content: "Blood pressure is fine", created }],
    });
    await database.close();
    const run = async (code = "", env: Readonly<Record<string, string>> = {}) =>
      await runShell(code, {
        directory: directory.path,
        env: {
          ...environment(),
          MEMORY_PORT: "0",
          OLD_DATABASE_URL: old.url,
          NEW_DATABASE_URL: empty.url,
          ...env,
        },
      });
    await run(dump);
    const copied = await run(copy, { DATABASE_URL: target.url });
    expect(copied).toContain("default: 4 memories read, 4 created\n");
    expect(copied).toContain("default: 4 memories read, 0 created, 4 unchanged\n");
    expect(await databaseOf(target.url, `select id from "health-2_memories"`)).toEqual([{ id: "h" }]);
    expect(await run(inPlace)).toContain("default: 4 memories adopted, 0 embeddings kept, 4 to be embedded");
    expect(await databaseOf(old.url, "select name from memory_domains order by name")).toEqual([
      { name: "default" },
      { name: "health-2" },
    ]);
    await run(restore);
    expect(
      await databaseOf(empty.url, `select id, vector_dims(embedding) from default_memories where id = 'm1'`),
    ).toEqual([{ id: "m1", vector_dims: 768 }]);
  });
});
