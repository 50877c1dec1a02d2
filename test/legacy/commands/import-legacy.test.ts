import { createHash } from "node:crypto";
import { chmod, mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { type FakeOllama, startFakeOllama } from "../../../qa/fakes/ollama/index.ts";
import { createDataDirectory, type ServerData } from "../../support/postgres/data-directory.ts";
import {
  openGrpcClient,
  runProgram,
  type ServerProcess,
  startServerProcess,
} from "../../support/server/server-process.ts";
import { temporaryDirectory } from "../../support/temporary-directory.ts";
import { copyFixture, fixturesDirectory } from "../fixtures.ts";
import { writeLegacyDirectory, writeMemories } from "../write-directory.ts";

vi.setConfig({ testTimeout: 120_000, hookTimeout: 120_000 });

const small = join(fixturesDirectory, "small");

let ollama: FakeOllama;
let directory: Awaited<ReturnType<typeof temporaryDirectory>>;
let data: ServerData;
let server: ServerProcess;
let reports = 0;

beforeAll(async () => {
  ollama = await startFakeOllama();
  directory = await temporaryDirectory();
  data = await createDataDirectory();
  server = await startServerProcess({ env: { ...data.env, OLLAMA_API_URL: ollama.url } });
});

afterAll(async () => {
  await server?.[Symbol.asyncDispose]();
  await data?.[Symbol.asyncDispose]();
  await ollama?.close();
  await directory?.remove();
});

const newPath = () => join(directory.path, `path${reports++}`);

async function importLegacy(args: readonly string[], domain?: string) {
  const where = domain === undefined ? [] : ["--server", server.url, "--domain", domain];
  return await runProgram(["import-legacy", ...args, ...where]);
}

async function fingerprint(path: string): Promise<string> {
  const hash = createHash("sha256");
  for (const name of (await readdir(path)).sort()) hash.update(name).update(await readFile(join(path, name)));
  return hash.digest("hex");
}

async function domains(): Promise<string[]> {
  const { stdout } = await runProgram(["domains", "--json", "--server", server.url]);
  return [...stdout.matchAll(/"name":\s*"([^"]+)"/g)].map(([, name]) => name ?? "");
}

async function linesOf(path: string): Promise<Record<string, unknown>[]> {
  const text = await readFile(path, "utf8");
  return text
    .split("\n")
    .slice(0, -1)
    .map((line) => JSON.parse(line) as Record<string, unknown>);
}

test("a dry run shows what was found and writes nothing", async () => {
  const path = await copyFixture("small", directory.path);
  const before = await fingerprint(path);
  const { code, stdout, stderr } = await importLegacy([path, "--dry-run"], "dry");
  expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
  for (const line of [
    "197 memories",
    "150 memories with valid old embeddings (768 dimensions)",
    "25 memories whose old embeddings are all zero",
    "21 memories without old embeddings",
    "3 memories whose old embeddings belong to an earlier text",
    "26 chunks of earlier texts (tombstones)",
    "would do\n  197 memories stored",
  ]) {
    expect(stdout).toContain(line);
  }
  expect(await fingerprint(path)).toBe(before);
  expect(await domains()).not.toContain("dry");
  expect((await readdir(".")).filter((name) => name.startsWith("import-legacy"))).toEqual([]);
});

test("imports, verifies and rolls back, each with a report", async () => {
  const report = newPath();
  const imported = await importLegacy([small, "--report", report, "--json"], "whole");
  expect(imported.code, imported.stderr).toBe(0);
  const printed = JSON.parse(imported.stdout) as { run: string };
  expect(printed).toMatchObject({
    kind: "import",
    resumed: false,
    source: { memories: 197, vectors: { states: { ok: 150, zero: 25, missing: 21 }, tombstones: 26 } },
    counts: { created: 197, conflicts: 0, rejected: 0 },
    quarantine: { tombstone: 26, "stale-chunk": 4 },
    pending: 0,
  });
  expect((await readdir(report)).sort()).toEqual([
    "brought.jsonl",
    "quarantine.jsonl",
    "report.json",
    "report.txt",
    "run.json",
  ]);
  expect(JSON.parse(await readFile(join(report, "report.json"), "utf8"))).toEqual(printed);
  expect(await readFile(join(report, "report.txt"), "utf8")).toContain(`import ${printed.run}: ${small}`);
  expect(await linesOf(join(report, "quarantine.jsonl"))).toHaveLength(30);

  const verification = newPath();
  const verified = await importLegacy([small, "--verify", "--report", verification], "whole");
  expect(verified.code, verified.stderr).toBe(0);
  expect(verified.stdout).toContain("197 of 197 memories are identical");
  expect(verified.stdout).toContain("196 are embedded\n  1 have no text to embed");
  expect((await readdir(verification)).sort()).toEqual([
    "differences.jsonl",
    "verification.json",
    "verification.txt",
  ]);

  const back = await importLegacy(["--rollback", printed.run, "--report", report], "whole");
  expect(back.code, back.stderr).toBe(0);
  expect(back.stdout).toMatch(/^rollback of import .*: 197 memories removed\n$/);
  const unknown = await importLegacy(["--rollback", "20250101T000000Z-0000", "--report", report], "whole");
  expect(unknown.code).toBe(2);
  expect(unknown.stderr).toContain(
    "has no memories of an import 20250101T000000Z-0000; name the domain with --domain",
  );
  const missing = await importLegacy([small, "--verify", "--report", verification], "whole");
  expect(missing.code).toBe(1);
  expect(missing.stdout).toContain("197 are MISSING");
});

test("a rollback keeps memories that were changed since and restores those that were replaced", async () => {
  using grpc = openGrpcClient(server.url);
  const store = (id: string, content: string) => grpc.client.store({ domain: "back", id, content });
  await store("taken", "mine");
  const path = await writeLegacyDirectory(
    newPath(),
    ["taken", "changed", "bare", "gone", "kept"].map((id) => ({ id, content: `old ${id}` })),
  );
  const first = newPath();
  const imported = await importLegacy([path, "--on-conflict", "replace", "--report", first], "back");
  expect(imported.code, imported.stderr).toBe(0);
  const run = (JSON.parse(await readFile(join(first, "report.json"), "utf8")) as { run: string }).run;
  await grpc.client.update({
    memory: { domain: "back", id: "changed", content: "changed since" },
    updateMask: { paths: ["content"] },
  });
  // Removes the record, so that only the journal shows that the run imported the memory.
  await grpc.client.update({
    memory: { domain: "back", id: "bare", metadata: {} },
    updateMask: { paths: ["metadata"] },
    metadataMode: 2,
  });
  await grpc.client.delete({ domain: "back", id: "gone" });

  const { code, stdout, stderr } = await importLegacy(["--rollback", run, "--report", first], "back");
  expect(code).toBe(1);
  expect(stdout).toContain(
    "1 memory removed, 1 restored, 1 already deleted, 2 kept because they were changed",
  );
  expect(stderr).toMatch(
    /memory "changed" is kept: it was changed: version 1 after the import, now version 2/,
  );
  expect(stderr).toMatch(/memory "bare" is kept: it was changed and has lost the record of the import/);
  const { memories } = await grpc.client.list({ domain: "back" });
  expect(Object.fromEntries(memories.map(({ id, content }) => [id, content]))).toEqual({
    taken: "mine",
    changed: "changed since",
    bare: "old bare",
  });
});

test("a second run imports what has changed, and its rollback restores the state before it", async () => {
  const path = await writeLegacyDirectory(newPath(), [{ id: "a", content: "first" }]);
  const [one, two] = [newPath(), newPath()];
  expect((await importLegacy([path, "--report", one], "twice")).code).toBe(0);
  const { DatabaseSync } = await import("node:sqlite");
  const database = new DatabaseSync(join(path, "memory.db"));
  database.exec("update memories set content = 'second', updated_at = updated_at + 1");
  database.close();
  writeMemories(path, [{ id: "b", content: "new", created_at: 1_750_000_100.5 }]);
  const second = await importLegacy([path, "--report", two, "--json"], "twice");
  const { run, counts } = JSON.parse(second.stdout) as { run: string; counts: object };
  expect(counts).toMatchObject({ created: 1, updated: 1, unchanged: 0 });
  using grpc = openGrpcClient(server.url);
  const contents = async () =>
    (await grpc.client.list({ domain: "twice" })).memories.map(({ content }) => content).sort();
  expect(await contents()).toEqual(["new", "second"]);
  expect((await importLegacy(["--rollback", run, "--report", two], "twice")).stdout).toContain(
    "1 memory removed, 1 restored",
  );
  expect(await contents()).toEqual(["first"]);
});

describe("fails with one sentence and writes nothing", () => {
  test.each<[string, () => Promise<string[]>, RegExp]>([
    [
      "a directory that does not exist",
      async () => ["/nowhere"],
      /^memory-service: the directory \/nowhere does not exist\n$/,
    ],
    [
      "a directory without a database",
      async () => {
        const path = newPath();
        await mkdir(path);
        return [path];
      },
      /^memory-service: .* does not contain memory\.db; pass the directory that MCP_DATA_DIR named, or in which the old server was started\n$/,
    ],
    [
      "a file that is not a SQLite database",
      async () => {
        const path = newPath();
        await mkdir(path);
        await writeFile(join(path, "memory.db"), "x".repeat(10_000));
        return [path];
      },
      /^memory-service: .*memory\.db is not a SQLite database, or it is encrypted; restore it from a backup or decrypt it first\n$/,
    ],
    [
      "a truncated export",
      async () => {
        const path = `${newPath()}.json`;
        const whole = await readFile(join(fixturesDirectory, "fork-agency.export.json"));
        await writeFile(path, whole.subarray(0, 9_000));
        return [path];
      },
      /^memory-service: .*\.json ends prematurely; it is not a complete export of the old server, export again\n$/,
    ],
    [
      "JSON that is not an export",
      async () => {
        const path = `${newPath()}.json`;
        await writeFile(path, '{"version": 2, "memories": []}');
        return [path];
      },
      /^memory-service: .*\.json has version 2; only exports of the fork with version 1 are supported\n$/,
    ],
    [
      "a directory for the report that is not empty",
      async () => [small, "--report", fixturesDirectory],
      /^memory-service: .*fixtures\/legacy is not empty; --report requires a new directory or that of an interrupted import\n$/,
    ],
    [
      "a directory for the report that is not writable",
      async () => [small, "--report", join(small, "memory.db", "report")],
      /^memory-service: cannot write the report of the import: .*; use a different directory with --report\n$/,
    ],
    [
      "a file as the directory for the report of a verification",
      async () => [small, "--verify", "--report", join(small, "memory.db")],
      /^memory-service: cannot write the report: .*; use a different directory with --report\n$/,
    ],
    [
      "a directory for the report that cannot be created",
      async () => [small, "--report", "/proc/nowhere/report"],
      /^memory-service: cannot write the report of the import: .*; use a different directory with --report\n$/,
    ],
  ])("%s", async (_, args, sentence) => {
    const { code, stdout, stderr } = await importLegacy(await args(), "refused");
    expect({ code, stdout }).toEqual({ code: 1, stdout: "" });
    expect(stderr).toMatch(sentence);
    expect(await domains()).not.toContain("refused");
  });
});

test("imports without a server into the configured database, from a read-only directory", async () => {
  const path = await copyFixture("orphan-chunks-deleted-rows", newPath());
  await chmod(path, 0o500);
  await using own = await createDataDirectory();
  const env = { ...own.env, OLLAMA_API_URL: ollama.url };
  const imported = await runProgram(["import-legacy", path, "--report", newPath()], { env });
  await chmod(path, 0o700);
  expect(imported.code, imported.stderr).toBe(0);
  expect(imported.stdout).toContain(`into domain "default" of the directory ${own.directory}`);
  expect(imported.stdout).toContain("2 chunks of memories that no longer exist (orphans)");
  expect(imported.stdout).toContain("every memory is embedded");
  const verified = await runProgram(["import-legacy", path, "--verify", "--report", newPath()], { env });
  expect(verified.stdout).toContain("10 of 10 memories are identical");
  expect(verified.code).toBe(0);
});

test("reports pending embeddings with --no-wait", async () => {
  const path = await copyFixture("orphan-chunks-deleted-rows", newPath());
  await using own = await createDataDirectory();
  const env = { ...own.env, OLLAMA_API_URL: "http://127.0.0.1:9" };
  const imported = await runProgram(["import-legacy", path, "--no-wait", "--report", newPath()], { env });
  expect(imported.code, imported.stderr).toBe(0);
  expect(imported.stdout).toContain("; 10 memories wait for their embedding");
});
