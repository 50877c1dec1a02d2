import { Client } from "@modelcontextprotocol/client";
import { StdioClientTransport } from "@modelcontextprotocol/client/stdio";
import type { FoundMemory, MemoryTools } from "../../mcp/memory-tools.ts";

/** The old server as a child process. */
export interface LegacyServerTools extends MemoryTools {
  /** Ends the child process. */
  close(): Promise<void>;
}

interface Connection {
  readonly client: Client;
  /** The parameters of each tool: the SQLite version knows no domain, the PostgreSQL one no use_vector. */
  readonly parameters: ReadonlyMap<string, ReadonlySet<string>>;
}

/**
 * The old server by its own tools, whichever version it is: started by a line for the shell with the first call, and again
 * after it has ended. Its standard error is ours. Stores one memory after the other: its ids are milliseconds.
 */
export function createLegacyServerTools(command: string, version: string): LegacyServerTools {
  let connection: Promise<Connection> | undefined;
  let storing: Promise<unknown> = Promise.resolve();

  async function connect(): Promise<Connection> {
    const client = new Client({ name: "memory-service", version });
    const windows = process.platform === "win32";
    await client.connect(
      new StdioClientTransport({
        command: windows ? "cmd" : "/bin/sh",
        // The shell gives way to the server, so that ending the child ends that.
        args: windows ? ["/d", "/s", "/c", command] : ["-c", `exec ${command}`],
        env: Object.fromEntries(
          Object.entries(process.env).flatMap(([name, value]) =>
            value === undefined ? [] : [[name, value]],
          ),
        ),
        stderr: "inherit",
      }),
    );
    try {
      const { tools } = await client.listTools();
      // Only now: the end of one that failed must not make a later one be forgotten.
      client.onclose = () => {
        connection = undefined;
      };
      const parameters = new Map(
        tools.map(({ name, inputSchema }) => [name, new Set(Object.keys(inputSchema.properties ?? {}))]),
      );
      return { client, parameters };
    } catch (error) {
      // Or it would stay beside the one that the next call starts.
      await client.close().catch(() => {});
      throw error;
    }
  }

  async function call(name: string, given: Readonly<Record<string, unknown>>): Promise<unknown> {
    connection ??= connect();
    const { client, parameters } = await connection.catch((error: unknown) => {
      connection = undefined;
      throw error;
    });
    const known = parameters.get(name);
    if (known === undefined) throw new Error(`the old server has no tool ${name}`);
    const args = Object.fromEntries(
      Object.entries(given).filter(([key, value]) => value !== undefined && known.has(key)),
    );
    const result = await client.callTool({ name, arguments: args });
    const texts = result.content.flatMap((block) => (block.type === "text" ? [block.text] : []));
    if (result.isError === true) throw new Error(`the old server: ${texts.join(" ")}`);
    const structured = result.structuredContent;
    if (typeof structured === "object" && structured !== null && "result" in structured)
      return structured.result;
    return texts;
  }

  return {
    async store({ content, domain, source, importance }) {
      const stored = storing.then(() => call("store_memory", { content, domain, source, importance }));
      storing = stored.catch(() => {});
      const [id] = [await stored].flat();
      if (typeof id !== "string") throw new Error("the old server returned no id");
      return id;
    },

    async update({ memoryId, content, importance, domain }) {
      const [done] = [
        await call("update_memory", { memory_id: memoryId, content, importance, domain }),
      ].flat();
      return done === true || /^true$/i.test(String(done));
    },

    async search({ query, domain, limit, useVector }) {
      const result = await call("search_memories", { query, domain, limit, use_vector: useVector });
      return valuesFrom(result).map(foundFrom);
    },

    async listDomains() {
      if (connection !== undefined && !(await connection).parameters.has("list_memory_domains"))
        return ["default"];
      return valuesFrom(await call("list_memory_domains", {})).map(String);
    },

    async close() {
      const open = connection;
      connection = undefined;
      await open?.then(({ client }) => client.close()).catch(() => {});
    },
  };
}

/**
 * The items of a list that a tool returned. Without structured content it is a text with the JSON of the list, or of its
 * only item, or a text for each item, or no text at all: that depends on the version of the old server's library.
 */
function valuesFrom(result: unknown): unknown[] {
  const items = Array.isArray(result) ? result : [result];
  return items.flatMap((item: unknown) => (typeof item === "string" ? parsed(item) : [item]));
}

function parsed(text: string): unknown[] {
  try {
    const value: unknown = JSON.parse(text);
    return Array.isArray(value) ? value : [value];
  } catch {
    return [text];
  }
}

function foundFrom(value: unknown): FoundMemory {
  const { id, content, metadata, score } = (
    typeof value === "object" ? value : undefined
  ) as Partial<FoundMemory>;
  return {
    id: String(id),
    content: String(content),
    metadata: typeof metadata === "object" && metadata !== null ? metadata : {},
    // The PostgreSQL version sends some as text.
    score: Number(score ?? 0),
  };
}
