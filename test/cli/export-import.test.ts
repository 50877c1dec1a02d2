import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { type FakeOllama, startFakeOllama } from "../../qa/fakes/ollama/index.ts";
import { createDataDirectory, type ServerData } from "../support/postgres/data-directory.ts";
import { serverEngines } from "../support/server/server-engines.ts";
import {
  openGrpcClient,
  runProgram,
  type ServerProcess,
  startProgram,
  startServerProcess,
} from "../support/server/server-process.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";

vi.setConfig({ testTimeout: 120_000 });

const MEMORIES = 300;

let ollama: FakeOllama;
let directory: Awaited<ReturnType<typeof temporaryDirectory>>;
let data: ServerData;
let source: ServerProcess;
/** The export of `source`, with embeddings. */
let file: string;
let exported: string;

beforeAll(async () => {
  ollama = await startFakeOllama();
  directory = await temporaryDirectory();
  data = await createDataDirectory();
  source = await startServerProcess({ env: { ...data.env, OLLAMA_API_URL: ollama.url } });
  using grpc = openGrpcClient(source.url);
  // Wait for the embeddings.
  for (let first = 0; first < MEMORIES; first += 100) {
    const items = Array.from({ length: 100 }, (_, n) => ({
      domain: "work",
      id: `m${String(first + n).padStart(4, "0")}`,
      content: `memory ${first + n} ${"of many words ".repeat(n === 7 ? 500 : 5)}`,
      source: "test",
      importance: n / 100,
      tags: ["a", `t${n}`],
      metadata: { n, deep: { list: [1, null, "ü"] } },
    }));
    await grpc.client.batchStore({ items });
  }
  await vi.waitFor(
    async () => expect(await exportOf(source, ["--embeddings"])).not.toContain("STATE_PENDING"),
    { timeout: 60_000 },
  );
  exported = await exportOf(source, ["--embeddings"]);
  file = join(directory.path, "export.jsonl");
  await writeFile(file, exported);
}, 180_000);

afterAll(async () => {
  await source?.[Symbol.asyncDispose]();
  await data?.[Symbol.asyncDispose]();
  await ollama?.close();
  await directory?.remove();
});

async function exportOf(server: ServerProcess, args: readonly string[] = []): Promise<string> {
  const { code, stdout, stderr } = await runProgram([
    "export",
    "--server",
    server.url,
    "--domain",
    "work",
    ...args,
  ]);
  expect(code, stderr).toBe(0);
  return stdout;
}

const importInto = (server: ServerProcess, args: readonly string[], stdin?: string) =>
  runProgram(["import", "--server", server.url, ...args], stdin === undefined ? {} : { stdin });

/** Removes the number of the embedding version, which differs between installations. */
function comparable(lines: string): string {
  return lines.replace(/("embeddingVersion":\{"version":)\d+/, "$1");
}

test("export writes a header, one line per memory and a summary", () => {
  const lines = exported
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line));
  expect(lines).toHaveLength(MEMORIES + 2);
  expect(lines[0]).toMatchObject({ header: { domain: "work", embeddingVersion: { dimensions: 768 } } });
  expect(lines[1]).toMatchObject({ record: { memory: { id: "m0000" }, chunks: [{ endOffset: 79 }] } });
  expect(lines.at(-1)).toEqual({ summary: { records: String(MEMORIES) } });
  expect(exported).not.toContain('"cursor"');
});

describe.each(serverEngines())("into $name", ({ create }) => {
  let own: ServerData;
  let target: ServerProcess;

  beforeAll(async () => {
    own = await create();
    target = await startServerProcess({ env: { ...own.env, OLLAMA_API_URL: ollama.url } });
    // From now on the server knows the embedding version.
    using grpc = openGrpcClient(target.url);
    await grpc.client.store({ content: "first", domain: "first" });
  }, 120_000);
  afterAll(async () => {
    await target?.[Symbol.asyncDispose]();
    await own?.[Symbol.asyncDispose]();
  });

  test("an imported export is equal to its own export", async () => {
    const imported = await importInto(target, [file]);
    expect(imported.stderr).toMatch(/^imported after 300 records in \d+\.\d s: 300 created\n$/);
    expect(imported).toMatchObject({ code: 0, stdout: "" });
    expect(comparable(await exportOf(target, ["--embeddings"]))).toBe(comparable(exported));

    const again = await importInto(target, [file]);
    expect(again.stderr).toMatch(/: 300 unchanged\n$/);
    expect(again.code).toBe(0);
  });

  test("names invalid lines, and stops or continues as --on-error says", async () => {
    const line = (id: string, more = "") => `{"record":{"memory":{"id":"${id}","content":"x"${more}}}}`;
    const broken = [
      line("one"),
      "{nonsense",
      "",
      line("two", ',"surce":"typo"'),
      line("three", ',"importance":"NaN"'),
      line("four", ',"metadata":{"k":["\\ud800"]}'),
      '{"record":{"memory":{"content":"five"}}}',
      line("six", ',"content":"\\u0000"').replace('"content":"x",', ""),
      "[]",
      line("last"),
    ].join("\n");
    const continued = await importInto(target, ["-", "--domain", "broken", "--on-error", "continue"], broken);
    expect(continued.code).toBe(1);
    const lines = continued.stderr.trimEnd().split("\n");
    expect(lines).toEqual([
      expect.stringMatching(/^line 2: not JSON: /),
      expect.stringMatching(/^line 4: not a line of an export: .*surce/),
      expect.stringMatching(/^line 5: memory "three": record\.memory\.importance: must be a finite number/),
      expect.stringMatching(/^line 6: record\.memory\.metadata\.k\[0\] contains an unpaired surrogate/),
      expect.stringMatching(/^line 7: record\.memory\.id: must not be empty/),
      expect.stringMatching(/^line 8: memory "six": record\.memory\.content: must not contain the NUL/),
      expect.stringMatching(/^line 9: not a line of an export: /),
      expect.stringMatching(/^imported after 9 records in .*: 2 created, 7 rejected$/),
    ]);

    const stops = await importInto(target, ["-", "--domain", "stopped"], broken);
    expect(stops.code).toBe(1);
    expect(stops.stderr).toMatch(
      /^line 2: not JSON: .*\nstopped after 2 records in .*: 1 created, 1 rejected\n$/,
    );

    const resumed = await importInto(target, ["-", "--domain", "stopped", "--from-line", "10"], broken);
    expect(resumed.stderr).toMatch(/^imported after 1 records/);
    expect(resumed.code).toBe(0);
  });

  test("reports a truncated file", async () => {
    const lines = exported.split("\n");
    const cut = `${lines.slice(0, 5).join("\n")}\n${lines[5]?.slice(0, 100)}`;
    const result = await importInto(target, ["-", "--domain", "cut", "--on-error", "continue"], cut);
    expect(result.code).toBe(1);
    expect(result.stderr).toContain("line 6: not JSON");
    expect(result.stderr).toContain("the file has no summary at its end");
    const gap = [...lines.slice(0, 5), ...lines.slice(-2)].join("\n");
    const second = await importInto(target, ["-", "--domain", "cut"], gap);
    expect(second.stderr).toContain(
      "the summary in line 6 counts 300 records, but the file has 4; some lines are missing",
    );
  });
});

test("an interrupted export names the cursor at which to resume", async () => {
  const args = ["export", "--server", source.url, "--domain", "work", "--embeddings"];
  const { child, stderr, exited } = startProgram(args);
  if (child.stdout === null) throw new Error("no standard output");
  // The export fills the pipe and waits for this reader.
  await new Promise((resolve) => child.stdout?.once("readable", resolve));
  child.kill("SIGINT");
  const begun = await text(child.stdout);
  expect((await exited).code).toBe(1);
  const cursor = /--cursor (\S+)/.exec(stderr())?.[1] ?? "";
  const rest = await exportOf(source, ["--embeddings", "--cursor", cursor]);
  const records = (lines: string) => lines.split("\n").filter((line) => line.startsWith('{"record"'));
  expect(records(begun).length).toBeLessThan(MEMORIES);
  expect([...records(begun), ...records(rest)]).toEqual(records(exported));

  const both = join(directory.path, "both.jsonl");
  await writeFile(both, `${begun}${rest}`);
  expect((await readFile(both, "utf8")).endsWith("\n")).toBe(true);
  const imported = await importInto(source, [both, "--domain", "both"]);
  expect(imported.stderr).toMatch(/: 300 created\n$/);
});

test("reports an unreachable server and a missing file in one sentence", async () => {
  const result = await runProgram(["export", "--server", "http://127.0.0.1:9"]);
  expect(result).toMatchObject({ code: 1, stdout: "" });
  expect(result.stderr).toMatch(/cannot reach a server at http:\/\/127\.0\.0\.1:9/);
  const missing = await runProgram(["import", join(directory.path, "missing"), "--server", source.url]);
  expect(missing.code).toBe(1);
  expect(missing.stderr).toMatch(/^memory-service: cannot read .*missing: ENOENT/);
});
