// Stands in for the old memory server. Takes `sqlite` or `postgres` as its argument and keeps its memories in the file
// of OLD_MEMORIES or, with MCP_DATA_DIR, in a memory.db in that directory like the old server.

import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { type CallToolResult, McpServer } from "@modelcontextprotocol/server";
import { serveStdio } from "@modelcontextprotocol/server/stdio";
import { z } from "zod";

interface Stored {
  readonly id: string;
  content: string;
  readonly domain: string;
  readonly metadata: Record<string, unknown>;
}

const path = process.env.OLD_MEMORIES ?? "";
const isSqlite = process.argv[2] === "sqlite";
const directory = process.env.MCP_DATA_DIR;
const read = (): Stored[] =>
  directory !== undefined
    ? readDatabase(directory)
    : existsSync(path)
      ? JSON.parse(readFileSync(path, "utf8"))
      : [];
const write = (memories: readonly Stored[]) =>
  directory === undefined
    ? writeFileSync(path, JSON.stringify(memories))
    : writeDatabase(directory, memories);

function open(directory: string): DatabaseSync {
  const database = new DatabaseSync(join(directory, "memory.db"));
  database.exec(`create table if not exists memories (id TEXT PRIMARY KEY, content TEXT NOT NULL, metadata TEXT NOT NULL,
    created_at REAL NOT NULL, updated_at REAL NOT NULL)`);
  return database;
}

function readDatabase(directory: string): Stored[] {
  using database = open(directory);
  return database
    .prepare("select id, content, metadata from memories order by rowid")
    .all()
    .map(({ id, content, metadata }) => ({
      id: String(id),
      content: String(content),
      domain: "default",
      metadata: JSON.parse(String(metadata)),
    }));
}

/** Upserts the memories; unchanged rows keep their times. */
function writeDatabase(directory: string, memories: readonly Stored[]): void {
  using database = open(directory);
  const upsert = database.prepare(`insert into memories values (?, ?, ?, ?, ?) on conflict (id) do update
    set content = excluded.content, metadata = excluded.metadata, updated_at = excluded.updated_at
    where content <> excluded.content`);
  for (const { id, content, metadata } of memories) {
    const now = Date.now() / 1_000;
    const { created_at: created = now, ...rest } = metadata as { created_at?: number };
    const { source } = rest as { source?: string };
    const said = `{${source === undefined ? "" : `"source": ${JSON.stringify(source)}, `}"created_at": ${created}, "updated_at": ${now}}`;
    upsert.run(id, content, said, created, now);
  }
}

/** Formats results like FastMCP up to 2.8: one item is not a list, none is empty; 2.10 added structured content. */
function answer(result: string | boolean | readonly unknown[]): CallToolResult {
  const text = (value: unknown): CallToolResult["content"] => [
    { type: "text", text: typeof value === "string" ? value : JSON.stringify(value, undefined, 2) },
  ];
  if (!isSqlite) return { content: text(result), structuredContent: { result } };
  if (!Array.isArray(result)) return { content: text(result) };
  return { content: result.length === 0 ? [] : text(result.length === 1 ? result[0] : result) };
}

const optional = z.string().nullish();
const domain = isSqlite ? {} : { domain: optional };
const domainOf = (args: object) =>
  "domain" in args && typeof args.domain === "string" ? args.domain : "default";

serveStdio(() => {
  const server = new McpServer({ name: "old", version: "1" });
  server.registerTool(
    "store_memory",
    {
      inputSchema: z.object({
        content: z.string(),
        ...domain,
        source: optional,
        importance: z.number().nullish(),
      }),
    },
    (args) => {
      if (args.content === "refuse") throw new Error("database is locked");
      if (args.content === "die") process.exit(1);
      const memories = read();
      const id = `mem_${directory === undefined ? 1_750_000_000_000 + memories.length : Date.now()}`;
      const metadata = {
        ...(args.source ? { source: args.source } : {}),
        created_at: directory === undefined ? 1.5 : Date.now() / 1_000,
      };
      write([...memories, { id, content: args.content, domain: domainOf(args), metadata }]);
      return answer(id);
    },
  );
  server.registerTool(
    "update_memory",
    {
      inputSchema: z.object({
        memory_id: z.string(),
        content: optional,
        importance: z.number().nullish(),
        ...domain,
      }),
    },
    (args) => {
      const memories = read();
      const found = memories.find(({ id }) => id === args.memory_id);
      if (found !== undefined && args.content) found.content = args.content;
      write(memories);
      return answer(found !== undefined);
    },
  );
  const vector = isSqlite ? { use_vector: z.boolean().nullish() } : {};
  server.registerTool(
    "search_memories",
    // Strict like the old server: an unknown argument is an error.
    { inputSchema: z.strictObject({ query: z.string(), ...domain, limit: z.number(), ...vector }) },
    (args) =>
      answer(
        read()
          .filter((memory) => memory.domain === domainOf(args) && memory.content.includes(args.query))
          .slice(0, args.limit)
          .map(({ id, content, metadata }) => ({ id, content, metadata, score: isSqlite ? 0.4 : "0.6" })),
      ),
  );
  if (!isSqlite) {
    server.registerTool("list_memory_domains", {}, () =>
      answer([...new Set(read().map((memory) => memory.domain))]),
    );
  }
  return server;
});
