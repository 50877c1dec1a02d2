import type { McpServer } from "@modelcontextprotocol/server";
import { z } from "zod";

/** Registers the prompt summarize_memories. */
export function registerSummaryPrompt(server: McpServer): void {
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
