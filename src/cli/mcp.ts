import { once } from "node:events";
import { StdioServerTransport, serveStdio } from "@modelcontextprotocol/server/stdio";
import { readConfig } from "../app/config.ts";
import { openLocalClient } from "../app/open-local-client.ts";
import { createDualWriteTools } from "../legacy/mcp/dual-write-tools.ts";
import { createLegacyServerTools } from "../legacy/mcp/legacy-server-tools.ts";
import { createMcpServer } from "../mcp/mcp-server.ts";
import { createServiceTools } from "../mcp/service-tools.ts";
import { readVersion } from "../util/package-version.ts";
import { openServerClient, serverUrl } from "./client/server-client.ts";
import { domainMapFrom } from "./domain-map.ts";
import { createErrorLogger } from "./output/log.ts";
import { UsageError } from "./usage-error.ts";

export interface McpOptions {
  readonly server?: string;
  readonly map?: readonly string[];
  readonly also?: string;
  readonly readFrom?: "old" | "new";
}

/**
 * Serves the Model Context Protocol over standard input and output until the input ends or SIGTERM or SIGINT arrives.
 *
 * @throws StartupError, UsageError
 */
export async function mcp(options: McpOptions): Promise<void> {
  const config = readConfig(process.env);
  if (options.readFrom !== undefined && options.also === undefined) {
    throw new UsageError("--read-from requires --also");
  }
  const map = domainMapFrom(options.map ?? []);
  const logger = createErrorLogger(config.settings.MEMORY_LOG_LEVEL);
  // Standard output carries the protocol only, so that a library must not log there.
  console.log = console.error;
  console.info = console.error;

  const ended = Promise.race([
    once(process.stdin, "close"),
    once(process.stdin, "end"),
    once(process, "SIGTERM"),
    once(process, "SIGINT"),
  ]);
  const { client, close } =
    options.server === undefined
      ? await openLocalClient(config, logger)
      : await openServerClient(await serverUrl(options.server));
  const service = createServiceTools(client, (name) => map.get(name) ?? name);
  const old = options.also === undefined ? undefined : createLegacyServerTools(options.also, readVersion());
  const tools =
    old === undefined
      ? service
      : createDualWriteTools({ old, service, readFrom: options.readFrom ?? "new", logger });
  try {
    const handle = serveStdio(() => createMcpServer(tools, { version: readVersion() }), {
      transport: new StdioServerTransport(),
      onerror: (error) => logger.warn({ err: error }, "cannot process a message"),
    });
    await ended;
    await handle.close();
  } finally {
    await old?.close();
    await close();
  }
}
