import { type CallToolResult, McpServer, ResourceTemplate } from "@modelcontextprotocol/server";
import { z } from "zod";
import { DEFAULT_LIMIT } from "../memory/model/limits.ts";
import type { FoundMemory, MemoryTools } from "./memory-tools.ts";

/** An optional text argument. Assistants omit it or send null. */
const text = (description: string) => z.string().nullish().describe(description);
const importance = z
  .number()
  .nullish()
  .describe("How much the memory matters, from 0 (hardly) to 1 (must not be forgotten).");
const domain = text(
  "Topic that the memory belongs to, such as health or work. Defaults to the default domain.",
);
const query = z
  .string()
  .describe("Question or keywords to search for. An empty query returns the newest memories.");

const foundMemory = z.object({
  id: z.string(),
  content: z.string(),
  metadata: z.record(z.string(), z.unknown()),
  score: z.number(),
  query: z.string(),
});

/**
 * Creates an MCP server with the tools, resources and prompt of the old server, under the same names.
 *
 * It accepts the arguments of both versions of the old server: `domain` and `use_vector` are optional. A tool returns
 * what the old tool returned, as text (JSON, except for an id) and as `result` in the structured content.
 */
export function createMcpServer(tools: MemoryTools, info: { readonly version: string }): McpServer {
  const server = new McpServer({ name: "memory-service", version: info.version });
  registerWriteTools(server, tools);
  registerReadTools(server, tools);
  registerResources(server, tools);
  registerPrompt(server);
  return server;
}

function registerWriteTools(server: McpServer, tools: MemoryTools): void {
  server.registerTool(
    "store_memory",
    {
      description: "Stores a text for later conversations. Returns its id, which update_memory takes.",
      inputSchema: z.object({
        content: z
          .string()
          .describe(
            "Text to remember: a fact, a preference, a decision or anything else worth knowing later.",
          ),
        domain,
        source: text("Where the text comes from, such as conversation or meeting."),
        importance,
      }),
      outputSchema: z.object({ result: z.string() }),
    },
    async ({ content, domain, source, importance }) =>
      resultOf(
        await tools.store({
          content,
          domain: domain || undefined,
          source: source || undefined,
          importance: importance ?? undefined,
        }),
      ),
  );

  server.registerTool(
    "update_memory",
    {
      description: "Changes the text or the importance of a memory. Returns false if no memory has this id.",
      inputSchema: z.object({
        memory_id: z.string().describe("Id of the memory, as store_memory or search_memories returned it."),
        content: text("New text, which replaces the current one."),
        importance,
        domain,
      }),
      outputSchema: z.object({ result: z.boolean() }),
    },
    async ({ memory_id: memoryId, content, importance, domain }) =>
      resultOf(
        await tools.update({
          memoryId,
          content: content ?? undefined,
          importance: importance ?? undefined,
          domain: domain || undefined,
        }),
      ),
  );
}

function registerReadTools(server: McpServer, tools: MemoryTools): void {
  server.registerTool(
    "search_memories",
    {
      description:
        "Finds memories by hybrid search, which combines meaning and keywords. Returns id, content, metadata and score, best match first; a higher score is better.",
      inputSchema: z.object({
        query,
        domain,
        limit: z
          .number()
          .nullable()
          .default(DEFAULT_LIMIT)
          .describe("Maximum number of memories to return, up to 1000."),
        use_vector: z.boolean().nullable().default(true).describe("Set to false to search by keywords only."),
      }),
      outputSchema: z.object({ result: z.array(foundMemory) }),
      annotations: { readOnlyHint: true },
    },
    async ({ query, domain, limit, use_vector: useVector }) => {
      const found = await tools.search({
        query,
        domain: domain || undefined,
        limit,
        useVector: useVector ?? true,
      });
      return resultOf(found.map((memory) => ({ ...memory, query })));
    },
  );

  server.registerTool(
    "list_memory_domains",
    {
      description: "Lists the names of all domains.",
      inputSchema: z.object({}),
      outputSchema: z.object({ result: z.array(z.string()) }),
      annotations: { readOnlyHint: true },
    },
    async () => resultOf(await tools.listDomains()),
  );
}

function registerResources(server: McpServer, tools: MemoryTools): void {
  const read = async (uri: URL, query: string, domain: string | undefined) => {
    const found: FoundMemory[] = await tools.search({ query, domain, limit: DEFAULT_LIMIT, useVector: true });
    return { contents: [{ uri: uri.href, mimeType: "text/plain", text: JSON.stringify(found) }] };
  };
  server.registerResource(
    "get_memories",
    new ResourceTemplate("memory://{query}", { list: undefined }),
    {
      description: "The five memories of the default domain that match the query best, as JSON.",
      mimeType: "text/plain",
    },
    async (uri, { query }) => await read(uri, decoded(query), undefined),
  );
  server.registerResource(
    "get_domain_memories",
    new ResourceTemplate("memory://{domain}/{query}", { list: undefined }),
    {
      description: "The five memories of the domain that match the query best, as JSON.",
      mimeType: "text/plain",
    },
    async (uri, { domain, query }) => await read(uri, decoded(query), decoded(domain)),
  );
}

function registerPrompt(server: McpServer): void {
  server.registerPrompt(
    "summarize_memories",
    {
      description: "Asks for a summary of memories.",
      argsSchema: z.object({
        memories: z
          .string()
          .describe("JSON array of objects with a content field, as search_memories returns them."),
      }),
    },
    ({ memories }) => ({
      messages: [{ role: "user", content: { type: "text", text: promptOf(memories) } }],
    }),
  );
}

function resultOf(result: string | boolean | readonly unknown[]): CallToolResult {
  return {
    content: [{ type: "text", text: typeof result === "string" ? result : JSON.stringify(result) }],
    structuredContent: { result },
  };
}

/** Decodes a part of a URI; returns it unchanged if it is not valid percent-encoding. */
function decoded(part: string | readonly string[] | undefined): string {
  const text = typeof part === "string" ? part : (part?.join(",") ?? "");
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function promptOf(memories: string): string {
  const numbered = contentsFrom(memories).map((content, index) => `Memory ${index + 1}: ${content}`);
  return `Here are the memories about a user:\n\n${numbered.join("\n")}\n\nSummarize them in a few sentences. Name what matters most and what recurs.`;
}

/** Reads the contents from a JSON list of memories; a text that is not JSON counts as one memory. */
function contentsFrom(memories: string): string[] {
  let value: unknown;
  try {
    value = JSON.parse(memories);
  } catch {
    return [memories];
  }
  return (Array.isArray(value) ? value : [value]).map((one: unknown) =>
    typeof one === "object" && one !== null && "content" in one
      ? String(one.content)
      : typeof one === "string"
        ? one
        : JSON.stringify(one),
  );
}
