import { create } from "@bufbuild/protobuf";
import { MemorySchema } from "memory-service-client/memoryservice/v1/memory_pb.js";
import { SearchResponseSchema } from "memory-service-client/memoryservice/v1/memory_service_pb.js";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { formatList, formatMemory, formatSearch } from "../../src/cli/memories/format-memories.ts";
import { readLines } from "../../src/cli/memories/read-lines.ts";
import { createProgress } from "../../src/cli/output/progress.ts";
import { createDataDirectory, type ServerData } from "../support/postgres/data-directory.ts";
import { runProgram, type ServerProcess, startServerProcess } from "../support/server/server-process.ts";

vi.setConfig({ testTimeout: 60_000 });

describe("the memory commands", () => {
  let data: ServerData;
  let server: ServerProcess;

  beforeAll(async () => {
    data = await createDataDirectory();
    server = await startServerProcess({ env: data.env });
  }, 120_000);
  afterAll(async () => {
    await server?.[Symbol.asyncDispose]();
    await data?.[Symbol.asyncDispose]();
  });

  /** Runs a command with the address of the server in its settings. */
  const run = (args: readonly string[], stdin?: string) =>
    runProgram(args, {
      env: { MEMORY_PORT: String(server.port) },
      ...(stdin === undefined ? {} : { stdin }),
    });

  test("store, search, get, list, delete and domains print JSON if the output is not a terminal", async () => {
    const full = ["--id", "m", "--domain", "work", "--source", "s", "--importance", "0.5", "--tag", "a", "b"];
    const stored = await run(["store", "Buy apples", ...full, "--metadata", '{"k":1}', "--ttl", "7d"]);
    expect(stored).toMatchObject({ code: 0, stderr: "" });
    expect(JSON.parse(stored.stdout)).toMatchObject({
      outcome: "STORE_OUTCOME_CREATED",
      memory: { content: "Buy apples", source: "s", importance: 0.5, tags: ["a", "b"], metadata: { k: 1 } },
    });
    const piped = JSON.parse((await run(["store", "--domain", "work"], "From standard input\n")).stdout);
    expect(piped.memory).toMatchObject({
      content: "From standard input\n",
      id: expect.stringMatching(/^mem_/),
    });

    const found = JSON.parse((await run(["search", "apples", "--domain", "work", "--limit", "3"])).stdout);
    expect(found.hits).toMatchObject([{ memory: { id: "m" } }]);
    const filter = '{"sources":{"values":["other"]}}';
    const filtered = await run([
      "search",
      "apples",
      "--domain",
      "work",
      "--filter",
      filter,
      "--mode",
      "text",
    ]);
    expect(JSON.parse(filtered.stdout).hits).toBeUndefined();

    expect(JSON.parse((await run(["get", "m", "--domain", "work"])).stdout)).toMatchObject({
      id: "m",
      version: "1",
    });
    const list = (await run(["list", "--domain", "work"])).stdout.trimEnd().split("\n");
    expect(list.map((line) => JSON.parse(line).id)).toEqual([piped.memory.id, "m"]);
    const limited = await run(["list", "--domain", "work", "--limit", "1"]);
    expect(limited.stdout.trimEnd().split("\n")).toHaveLength(1);
    const names = (await run(["domains"])).stdout
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line).name);
    expect(names).toEqual(["default", "work"]);

    const deleted = await run(["delete", "m", "--domain", "work"]);
    expect(JSON.parse(deleted.stdout)).toEqual({ deleted: true });
  });

  test("exits with code 1 for a failure and with code 2 for a usage error", async () => {
    expect(await run(["get", "missing"])).toMatchObject({
      code: 1,
      stdout: "",
      stderr: 'memory-service: memory "missing" does not exist in domain "default"\n',
    });
    expect(await run(["store", ""])).toMatchObject({
      code: 2,
      stderr: "memory-service: content must not be empty\n",
    });
    expect((await run(["list", "--domain", "Bad"])).code).toBe(2);
  });
});

describe("text output", () => {
  const memory = create(MemorySchema, {
    id: "m",
    domain: "work",
    content: "two\nlines \u001b[31mred",
    createTime: { seconds: 0n },
    version: 1n,
  });

  test("replaces control characters of a memory", () => {
    expect(formatMemory(memory)).toBe(
      [
        "id         m",
        "domain     work",
        "created    1970-01-01T00:00:00.000Z",
        "version    1",
        "embedding  pending",
        "",
        "two\nlines �[31mred",
        "",
      ].join("\n"),
    );
    expect(formatList([memory])).toBe("m  1970-01-01T00:00:00.000Z  two lines �[31mred\n");
  });

  test("shows hits, that there are none, and why semantic search was skipped", () => {
    const found = create(SearchResponseSchema, {
      hits: [{ memory, score: 0.5, snippet: { text: "two" } }],
      info: { degraded: true },
    });
    expect(formatSearch(found)).toMatch(/^1\. {2}0\.5000 {2}work {2}m\n {4}two\n\(full-text search only: /);
    expect(formatSearch(create(SearchResponseSchema))).toBe("no memories found\n");
  });
});

test("shows progress as a bar on a terminal and as lines elsewhere", () => {
  for (const [isTTY, expected] of [
    [true, "\r\u001b[K[###############...............] 50 %  5 memories  6 s\r\u001b[K"],
    [false, "5 memories, 50 %, 6 s\n"],
  ] as const) {
    let time = 0;
    let written = "";
    const progress = createProgress({ isTTY, write: (text) => (written += text) }, () => time);
    time = 6_000;
    progress.show("5 memories", 5, 10);
    progress.show("6 memories", 6, 10);
    progress.clear();
    expect(written).toBe(expected);
  }
});

test("reads whole lines, wherever the chunks of bytes end", async () => {
  const bytes = Buffer.from("é1\n\n2\r\nlast");
  async function* inPieces(size: number) {
    for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
    yield Buffer.from([0x0a, 0xff, 0x0a]);
  }
  for (const size of [1, 2, 3, 100]) {
    const lines = [];
    for await (const { number, text } of readLines(inPieces(size))) lines.push([number, text]);
    expect(lines).toEqual([
      [1, "é1"],
      [2, ""],
      [3, "2\r"],
      [4, "last"],
      [5, undefined],
    ]);
  }
});
