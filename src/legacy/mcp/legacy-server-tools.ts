import { Client } from "@modelcontextprotocol/client";
import { StdioClientTransport } from "@modelcontextprotocol/client/stdio";
import type { FoundMemory, MemoryTools } from "../../mcp/memory-operations.ts";

/** The tools of the old server, which runs as a child process. */
export interface LegacyServerTools extends MemoryTools {
  /** Stops the child process. */
  close(): Promise<void>;
}

interface Connection {
  readonly client: Client;
  /** Parameters by tool: the SQLite version has no `domain`, the PostgreSQL version has no `use_vector`. */
  readonly parameters: ReadonlyMap<string, ReadonlySet<string>>;
}

/**
 * Implements the tools by calling the old server, in either version.
 *
 * The first call starts the server with a shell command; a call after it has exited starts it again. Its standard error
 * is passed through. Memories are stored one at a time, because the old server's ids are timestamps in milliseconds.
 */
export function createLegacyServerTools(command: string, version: string): LegacyServerTools {
  const server = createConnection(command, version);
  let storing: Promise<unknown> = Promise.resolve();

  return {
    async store({ content, domain, source, importance }) {
      const stored = storing.then(() => server.call("store_memory", { content, domain, source, importance }));
      storing = stored.catch(() => {});
      const [id] = [await stored].flat();
      if (typeof id !== "string") throw new Error("the old server returned no id");
      return id;
    },

    async update({ memoryId, content, importance, domain }) {
      const [done] = [
        await server.call("update_memory", { memory_id: memoryId, content, importance, domain }),
      ].flat();
      return done === true || /^true$/i.test(String(done));
    },

    async search({ query, domain, limit, useVector }) {
      const result = await server.call("search_memories", { query, domain, limit, use_vector: useVector });
      return valuesFrom(result).map(foundFrom);
    },

    async listDomains() {
      if ((await server.lacksTool("list_memory_domains")) === true) return ["default"];
      return valuesFrom(await server.call("list_memory_domains", {})).map(String);
    },

    close: () => server.close(),
  };
}

/** Connects to the child process on demand and calls its tools. */
function createConnection(command: string, version: string) {
  let connection: Promise<Connection> | undefined;

  async function open(): Promise<Connection> {
    connection ??= connect(command, version, () => {
      connection = undefined;
    });
    return await connection.catch((error: unknown) => {
      connection = undefined;
      throw error;
    });
  }

  return {
    /** Calls a tool with those of the given arguments that it accepts. */
    async call(name: string, given: Readonly<Record<string, unknown>>): Promise<unknown> {
      const { client, parameters } = await open();
      const accepted = parameters.get(name);
      if (accepted === undefined) throw new Error(`the old server has no tool ${name}`);
      const args = Object.fromEntries(
        Object.entries(given).filter(([key, value]) => value !== undefined && accepted.has(key)),
      );
      const result = await client.callTool({ name, arguments: args });
      const texts = result.content.flatMap((block) => (block.type === "text" ? [block.text] : []));
      if (result.isError === true) throw new Error(`the old server failed: ${texts.join(" ")}`);
      const structured = result.structuredContent;
      if (typeof structured === "object" && structured !== null && "result" in structured)
        return structured.result;
      return texts;
    },

    /** Whether the running server lacks a tool; undefined if it has not been started. */
    async lacksTool(name: string): Promise<boolean | undefined> {
      return connection === undefined ? undefined : !(await connection).parameters.has(name);
    },

    async close(): Promise<void> {
      const open = connection;
      connection = undefined;
      await open?.then(({ client }) => client.close()).catch(() => {});
    },
  };
}

async function connect(command: string, version: string, onClose: () => void): Promise<Connection> {
  const client = new Client({ name: "memory-service", version });
  const windows = process.platform === "win32";
  await client.connect(
    new StdioClientTransport({
      command: windows ? "cmd" : "/bin/sh",
      // `exec` replaces the shell with the server, so that stopping the child stops the server.
      args: windows ? ["/d", "/s", "/c", command] : ["-c", `exec ${command}`],
      env: Object.fromEntries(
        Object.entries(process.env).flatMap(([name, value]) => (value === undefined ? [] : [[name, value]])),
      ),
      stderr: "inherit",
    }),
  );
  try {
    const { tools } = await client.listTools();
    // Set only now: when a failed attempt closes, it must not discard the connection of a later attempt.
    client.onclose = onClose;
    const parameters = new Map(
      tools.map(({ name, inputSchema }) => [name, new Set(Object.keys(inputSchema.properties ?? {}))]),
    );
    return { client, parameters };
  } catch (error) {
    // Otherwise the child would keep running beside the one that the next call starts.
    await client.close().catch(() => {});
    throw error;
  }
}

/**
 * Returns the items of a list that a tool returned.
 *
 * Without structured content, the library of the old server returns the list in a form that depends on its version: as
 * one JSON text, as one text per item, as the JSON of its only item, or as no text at all.
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
    // The PostgreSQL version returns some scores as text.
    score: Number(score ?? 0),
  };
}
