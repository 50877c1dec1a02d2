// Stands in for the old memory server: `sqlite` or `postgres` as argument, what is stored in the file of OLD_MEMORIES.

import { existsSync, readFileSync, writeFileSync } from "node:fs";
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
const read = (): Stored[] => (existsSync(path) ? JSON.parse(readFileSync(path, "utf8")) : []);
const write = (memories: readonly Stored[]) => writeFileSync(path, JSON.stringify(memories));

/** As FastMCP 2.8 and before: a list of one item is that item, of none is nothing; since 2.10 there is structured content. */
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
      const id = `mem_${1_750_000_000_000 + memories.length}`;
      const metadata = { ...(args.source ? { source: args.source } : {}), created_at: 1.5 };
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
    // Strict, as the old one: an argument that it does not know is an error.
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
