import type { CallToolResult, McpServer } from "@modelcontextprotocol/server";
import { z } from "zod";
import { DEFAULT_LIMIT } from "../memory/model/limits.ts";
import type { MemoryTools } from "./memory-operations.ts";

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

/** Registers the tools store_memory, update_memory, search_memories and list_memory_domains. */
export function registerMemoryTools(server: McpServer, tools: MemoryTools): void {
  registerWriteTools(server, tools);
  registerReadTools(server, tools);
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

function resultOf(result: string | boolean | readonly unknown[]): CallToolResult {
  return {
    content: [{ type: "text", text: typeof result === "string" ? result : JSON.stringify(result) }],
    structuredContent: { result },
  };
}
