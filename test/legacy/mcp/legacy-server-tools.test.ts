import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { createLegacyServerTools } from "../../../src/legacy/mcp/legacy-server-tools.ts";
import { cleanUp } from "../../server/harness.ts";
import { temporaryDirectory } from "../../support/temporary-directory.ts";

/** A server that initializes, but fails to list its tools. It exits with its input and writes its process id to a file. */
const speechless = (pids: string) => `
  import { appendFileSync } from "node:fs";
  import { createInterface } from "node:readline";
  appendFileSync(${JSON.stringify(pids)}, process.pid + "\\n");
  for await (const line of createInterface({ input: process.stdin })) {
    const { id, method, params } = JSON.parse(line);
    if (id === undefined) continue;
    const answer = method === "initialize"
      ? { result: { protocolVersion: params.protocolVersion, capabilities: { tools: {} }, serverInfo: { name: "old", version: "1" } } }
      : { error: { code: -32603, message: "no tools today" } };
    console.log(JSON.stringify({ jsonrpc: "2.0", id, ...answer }));
  }
`;

function isRunning(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}

test("stops an old server that fails to list its tools, and starts it again with the next call", async () => {
  const { path, remove } = await temporaryDirectory();
  cleanUp(remove);
  const pids = join(path, "pids");
  const script = join(path, "old-server.mjs");
  await writeFile(script, speechless(pids));
  const tools = createLegacyServerTools(`${process.execPath} ${script}`, "1");
  cleanUp(() => tools.close());
  const started: number[] = [];
  for (let call = 1; call <= 2; call++) {
    await expect(tools.listDomains()).rejects.toThrow("no tools today");
    const lines = (await readFile(pids, "utf8")).trim().split("\n");
    expect(lines).toHaveLength(call);
    started.push(Number(lines.at(-1)));
  }
  expect(started.filter(isRunning)).toEqual([]);
});
