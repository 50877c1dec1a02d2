import { McpServer } from "@modelcontextprotocol/server";
import type { MemoryTools } from "./memory-operations.ts";
import { registerMemoryResources } from "./memory-resources.ts";
import { registerMemoryTools } from "./memory-tools.ts";
import { registerSummaryPrompt } from "./summary-prompt.ts";

/**
 * Creates an MCP server with the tools, resources and prompt of the old server, under the same names.
 *
 * It accepts the arguments of both versions of the old server: `domain` and `use_vector` are optional. A tool returns
 * what the old tool returned, as text (JSON, except for an id) and as `result` in the structured content.
 */
export function createMcpServer(tools: MemoryTools, info: { readonly version: string }): McpServer {
  const server = new McpServer({ name: "memory-service", version: info.version });
  registerMemoryTools(server, tools);
  registerMemoryResources(server, tools);
  registerSummaryPrompt(server);
  return server;
}
