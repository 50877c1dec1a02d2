import { type CallToolResult, McpServer, ResourceTemplate } from "@modelcontextprotocol/server";
import { z } from "zod";
import { DEFAULT_LIMIT } from "../memory/model/limits.ts";
import type { FoundMemory, MemoryTools } from "./memory-tools.ts";

/** What an assistant may leave out, or send as null. */
const text = (description: string) => z.string().nullish().describe(description);
const importance = z
  .number()
  .nullish()
  .describe("how much it matters: 0 (hardly) to 1 (must not be forgotten)");
const domain = text("the topic it belongs to, such as health or work; left out: the default one");
const query = z.string().describe("what to look for, as a question or in words; empty: the newest memories");

const foundMemory = z.object({
  id: z.string(),
  content: z.string(),
  metadata: z.record(z.string(), z.unknown()),
  score: z.number(),
  query: z.string(),
});

/**
 * A server with the tools, resources and the prompt of the old one, under their names: of both its versions, so that
 * `domain` may be left out, and `use_vector` too. Results are what the old tools returned, as text (JSON but for an id) and
 * as the `result` of structured content.
 */
export function createMcpServer(tools: MemoryTools, info: { readonly version: string }): McpServer {
  const server = new McpServer({ name: "memory-service", version: info.version });

  server.registerTool(
    "store_memory",
    {
      description: "Keeps a text for later conversations. Returns its id, by which it can be changed.",
      inputSchema: z.object({
        content: z
          .string()
          .describe("the text: a fact, a preference, a decision, whatever should be known later"),
        domain,
        source: text("where it comes from, such as conversation or meeting"),
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
      description:
        "Changes the text or the importance of a memory. Returns false if there is none of this id.",
      inputSchema: z.object({
        memory_id: z.string().describe("as store_memory or search_memories gave it"),
        content: text("the text that takes the place of the one there"),
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

  server.registerTool(
    "search_memories",
    {
      description:
        "Finds memories by their meaning and their words, the best first: id, content, metadata and score (larger is better).",
      inputSchema: z.object({
        query,
        domain,
        limit: z.number().nullable().default(DEFAULT_LIMIT).describe("how many at most, up to 1000"),
        use_vector: z.boolean().nullable().default(true).describe("false: look for the words only"),
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

  const resource = async (uri: URL, query: string, domain: string | undefined) => {
    const found: FoundMemory[] = await tools.search({ query, domain, limit: DEFAULT_LIMIT, useVector: true });
    return { contents: [{ uri: uri.href, mimeType: "text/plain", text: JSON.stringify(found) }] };
  };
  server.registerResource(
    "get_memories",
    new ResourceTemplate("memory://{query}", { list: undefined }),
    {
      description: "The five memories of the default domain that fit the query best, as JSON.",
      mimeType: "text/plain",
    },
    async (uri, { query }) => await resource(uri, decoded(query), undefined),
  );
  server.registerResource(
    "get_domain_memories",
    new ResourceTemplate("memory://{domain}/{query}", { list: undefined }),
    {
      description: "The five memories of the domain that fit the query best, as JSON.",
      mimeType: "text/plain",
    },
    async (uri, { domain, query }) => await resource(uri, decoded(query), decoded(domain)),
  );

  server.registerPrompt(
    "summarize_memories",
    {
      description: "Asks for a summary of memories.",
      argsSchema: z.object({
        memories: z
          .string()
          .describe("JSON: a list of objects with content, as search_memories returns them"),
      }),
    },
    ({ memories }) => ({
      messages: [{ role: "user", content: { type: "text", text: promptOf(memories) } }],
    }),
  );

  return server;
}

function resultOf(result: string | boolean | readonly unknown[]): CallToolResult {
  return {
    content: [{ type: "text", text: typeof result === "string" ? result : JSON.stringify(result) }],
    structuredContent: { result },
  };
}

/** Of a part of a URI; what is no valid encoding stays as it is. */
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
  return `Here is what has been remembered about a user:\n\n${numbered.join("\n")}\n\nSummarize it in a few sentences: what matters, and what recurs.`;
}

/** The contents in a list of memories; a text that is none is one memory. */
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
