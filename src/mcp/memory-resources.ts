import { type McpServer, ResourceTemplate } from "@modelcontextprotocol/server";
import { DEFAULT_LIMIT } from "../memory/model/limits.ts";
import type { FoundMemory, MemoryTools } from "./memory-operations.ts";

/** Registers the resources memory://{query} and memory://{domain}/{query}. */
export function registerMemoryResources(server: McpServer, tools: MemoryTools): void {
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

/** Decodes a part of a URI; returns it unchanged if it is not valid percent-encoding. */
function decoded(part: string | readonly string[] | undefined): string {
  const text = typeof part === "string" ? part : (part?.join(",") ?? "");
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
