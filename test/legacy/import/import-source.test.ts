import { createHash } from "node:crypto";
import { mkdir, readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { create } from "@bufbuild/protobuf";
import { type Memory, MemoryRecordSchema } from "memory-service-client/memoryservice/v1/memory_pb.js";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { type FakeOllama, startFakeOllama } from "../../../qa/fakes/ollama/index.ts";
import { readConfig } from "../../../src/app/config.ts";
import { type LocalClient, openLocalClient } from "../../../src/app/open-local-client.ts";
import { LEGACY_KEY } from "../../../src/legacy/convert/legacy-record.ts";
import type { OnConflict } from "../../../src/legacy/import/choose-action.ts";
import type { Detail } from "../../../src/legacy/import/import-counts.ts";
import { importSource, type Journal } from "../../../src/legacy/import/import-source.ts";
import { quarantine } from "../../../src/legacy/import/quarantine.ts";
import { findMemories, importRecords, type TargetDomain } from "../../../src/legacy/import/target-domain.ts";
import { type Difference, verifySource } from "../../../src/legacy/import/verify-source.ts";
import { waitForEmbeddings } from "../../../src/legacy/import/wait-for-embeddings.ts";
import { openLegacySource } from "../../../src/legacy/readers/open-legacy-source.ts";
import type { ServerData } from "../../support/postgres/data-directory.ts";
import { serverEngines } from "../../support/server/server-engines.ts";
import { silentLogger } from "../../support/silent-logger.ts";
import { temporaryDirectory } from "../../support/temporary-directory.ts";
import { FIXTURES, fixturesDirectory, readTruth } from "../fixtures.ts";
import { type Row, writeLegacyDirectory, writeMemories } from "../write-directory.ts";

vi.setConfig({ testTimeout: 120_000, hookTimeout: 120_000 });

const never = new AbortController().signal;

describe.each(serverEngines())("old data on $name", (engine) => {
  let ollama: FakeOllama;
  let data: ServerData;
  let local: LocalClient;
  let directory: Awaited<ReturnType<typeof temporaryDirectory>>;
  let directories = 0;

  beforeAll(async () => {
    ollama = await startFakeOllama();
    data = await engine.create();
    directory = await temporaryDirectory();
    local = await openLocalClient(readConfig({ ...data.env, OLLAMA_API_URL: ollama.url }), silentLogger);
  });

  afterAll(async () => {
    await local?.close();
    await data?.[Symbol.asyncDispose]();
    await ollama?.close();
    await directory?.remove();
  });

  const targetOf = (domain: string): TargetDomain => ({
    client: local.client.raw,
    domain,
    name: "a test",
    remote: false,
  });
  const newPath = () => join(directory.path, `directory${directories++}`);

  /** Imports a path and returns what the command would report. */
  async function importInto(
    path: string,
    target: TargetDomain,
    run = "run1",
    onConflict: OnConflict = "skip",
  ) {
    const details: Detail[] = [];
    const replaced: Memory[] = [];
    const journal: Journal = {
      appendImported: async () => {},
      appendReplaced: async (memories) => void replaced.push(...memories),
      appendDetails: async (more) => void details.push(...more),
    };
    const source = await openLegacySource(path, never);
    try {
      const counts = await importSource(source, target, { onConflict, run, journal, signal: never });
      const nonZero = Object.fromEntries(Object.entries(counts).filter(([, count]) => count > 0));
      return { counts: nonZero, details, replaced };
    } finally {
      await source.close();
    }
  }

  async function verify(path: string, target: TargetDomain) {
    const differences: Difference[] = [];
    const source = await openLegacySource(path, never);
    try {
      const result = await verifySource(source, target, {
        onDifference: async (difference) => void differences.push(difference),
        signal: never,
      });
      return { result, differences };
    } finally {
      await source.close();
    }
  }

  test.each(FIXTURES)("imports everything of %s once and identically", async (fixture) => {
    const path = join(fixturesDirectory, fixture);
    const truth = await readTruth(fixture);
    const target = targetOf(fixture);
    const alive = truth.memories.filter(({ expires_at }) => !isOver(expires_at));
    const expired = truth.memories.length - alive.length;
    const rest = expired === 0 ? {} : { expired };
    const first = await importInto(path, target);
    expect(first.counts).toEqual({ created: alive.length, ...rest });
    expect(first.details.map(({ what }) => what)).toEqual(Array(expired).fill("expired"));
    expect(await waitForEmbeddings(target, () => {}, never)).toBe(0);

    const found = await findMemories(
      target,
      truth.memories.map(({ id }) => id),
      never,
    );
    for (const { id, content_utf8_sha256, updated_at } of alive) {
      const memory = found.get(id);
      expect(
        createHash("sha256")
          .update(memory?.content ?? "")
          .digest("hex"),
      ).toBe(content_utf8_sha256);
      const { seconds = 0n, nanos = 0 } = memory?.updateTime ?? {};
      expect(Math.abs(Number(seconds) + nanos / 1e9 - updated_at)).toBeLessThan(1e-6);
    }
    const { result, differences } = await verify(path, target);
    expect(differences).toEqual([]);
    expect(result).toMatchObject({ equal: alive.length, expired, pending: 0 });
    expect(result.failed).toBe(result.empty);

    const again = await importInto(path, target, "run2");
    expect(again).toMatchObject({ counts: { unchanged: alive.length, ...rest }, replaced: [] });
  });

  test("an export of the fork equals its data directory", async () => {
    const target = targetOf("fork-export");
    const path = join(fixturesDirectory, "fork-agency.export.json");
    expect((await importInto(path, target)).counts).toEqual({ created: 11, expired: 1 });
    expect((await verify(path, target)).differences).toEqual([]);
    const { memories } = await readTruth("fork-agency");
    const ids = memories.flatMap(({ id, expires_at }) => (isOver(expires_at) ? [] : [id]));
    const [fromExport, fromDirectory] = await Promise.all(
      [target, targetOf("fork-agency")].map((one) => findMemories(one, ids, never)),
    );
    for (const id of ids) {
      const [a, b] = [fromExport?.get(id), fromDirectory?.get(id)];
      expect(a?.content).toBe(b?.content);
      expect(a?.tags).toEqual(b?.tags);
      expect([a?.createTime, a?.updateTime, a?.expireTime]).toEqual([
        b?.createTime,
        b?.updateTime,
        b?.expireTime,
      ]);
    }
  });

  test("restores byte for byte what PostgreSQL and JSON cannot store", async () => {
    const path = await writeLegacyDirectory(newPath(), adversarial);
    const target = targetOf("adversarial");
    const { counts, details } = await importInto(path, target);
    expect(counts).toEqual({ created: adversarial.length, altered: ALTERED });
    expect(new Set(details.map(({ what }) => what))).toEqual(new Set(["altered"]));
    expect(await waitForEmbeddings(target, () => {}, never)).toBe(0);
    const { result, differences } = await verify(path, target);
    expect(differences).toEqual([]);
    expect(result).toMatchObject({ equal: adversarial.length, failed: 2, empty: 2 });
    expect((await importInto(path, target)).counts).toEqual({ unchanged: adversarial.length });
  });

  test("imports several memories with the same id once each", async () => {
    const path = newPath();
    await mkdir(path);
    const database = new DatabaseSync(join(path, "memory.db"));
    database.exec(`create table memories (id, content, metadata, created_at, updated_at);
      insert into memories values ('twice', 'the first text', '{}', 1.5, 1.5), ('twice', 'the second text', '{}', 1.5, 1.5),
        (7, 'of a number', '{}', 1.5, 1.5), (7, 'of the same number', '{}', 1.5, 1.5), ('once', 'another', '{}', 1.5, 1.5),
        ('equal', 'in everything', '{}', 1.5, 1.5), ('equal', 'in everything', '{}', 1.5, 1.5)`);
    database.close();
    const target = targetOf("repeated");
    expect((await importInto(path, target)).counts).toEqual({ created: 6, altered: 5, unchanged: 1 });
    const { result, differences } = await verify(path, target);
    expect({ result, differences }).toMatchObject({ result: { equal: 7 }, differences: [] });
    expect((await importInto(path, target)).counts).toEqual({ unchanged: 7 });
  });

  test("imports only what has changed, and keeps memories that were changed in the target", async () => {
    const rows = ["a", "b", "c", "d"].map((id) => ({ id, content: `content of ${id}` }));
    const path = await writeLegacyDirectory(newPath(), rows);
    const target = targetOf("incremental");
    await importInto(path, target);
    await local.client.raw.memories.update({
      memory: { domain: "incremental", id: "c", content: "changed here" },
      updateMask: { paths: ["content"] },
    });
    await local.client.raw.memories.update({
      memory: { domain: "incremental", id: "d", content: "changed here" },
      updateMask: { paths: ["content"] },
    });
    await changeRow(path, "b", "changed there");
    await changeRow(path, "d", "changed there");
    writeMemories(path, [{ id: "e", content: "new there", created_at: 1_750_000_100.5 }]);

    const { counts, details, replaced } = await importInto(path, target, "run2");
    expect(counts).toEqual({ created: 1, updated: 1, unchanged: 1, changedHere: 1, conflicts: 1 });
    expect(details).toEqual([
      {
        id: "c",
        what: "changed-here",
        detail: "it was changed in the target and is kept there",
        memory: "c",
      },
      {
        id: "d",
        what: "conflict",
        detail: "it was changed on both sides since the import",
        memory: "d",
      },
    ]);
    expect(replaced.map(({ id, content }) => [id, content])).toEqual([["b", "content of b"]]);
    const found = await findMemories(target, ["a", "b", "c", "d", "e"], never);
    expect(
      [...found.values()]
        .toReversed()
        .map(({ id, content, version, metadata }) => [id, content, version, runOf(metadata)]),
    ).toEqual([
      ["a", "content of a", 1n, "run1"],
      ["b", "changed there", 2n, "run2"],
      ["c", "changed here", 2n, "run1"],
      ["d", "changed here", 2n, "run1"],
      ["e", "new there", 1n, "run2"],
    ]);
    const { result } = await verify(path, target);
    expect(result).toMatchObject({ equal: 3, changed: 2 });
  });

  test.each<[OnConflict, Record<string, number>, string[]]>([
    ["skip", { created: 1, conflicts: 1 }, ["mine"]],
    ["rename", { created: 2, renamed: 1 }, ["mine", "theirs"]],
    ["replace", { created: 1, replaced: 1 }, ["theirs"]],
  ])("an id that is taken: %s", async (onConflict, expected, contents) => {
    const target = targetOf(`conflict-${onConflict}`);
    await local.client.raw.memories.store({ domain: target.domain, id: "taken", content: "mine" });
    const path = await writeLegacyDirectory(newPath(), [
      { id: "taken", content: "theirs" },
      { id: "free", content: "free" },
    ]);
    const { counts, replaced } = await importInto(path, target, "run1", onConflict);
    expect(counts).toEqual(expected);
    expect(replaced.map(({ content }) => content)).toEqual(onConflict === "replace" ? ["mine"] : []);
    const { memories } = await local.client.raw.memories.list({ domain: target.domain });
    expect(memories.map(({ content }) => content).sort()).toEqual(["free", ...contents].sort());
    // A repeated import changes nothing.
    expect((await importInto(path, target, "run2", onConflict)).counts).toEqual(
      onConflict === "skip" ? { unchanged: 1, conflicts: 1 } : { unchanged: 2 },
    );
    const { result } = await verify(path, target);
    expect(result).toMatchObject(onConflict === "skip" ? { equal: 1, missing: 1 } : { equal: 2, missing: 0 });
  });

  test("an equal memory that was stored in another way is not a conflict", async () => {
    const path = await writeLegacyDirectory(newPath(), [{ id: "m", content: "the same" }]);
    const target = targetOf("other-way");
    await importInto(path, target);
    const memory = (await findMemories(target, ["m"], never)).get("m");
    if (memory === undefined) throw new Error("the memory does not exist");
    await local.client.raw.memories.delete({ domain: target.domain, id: "m" });
    const record = create(MemoryRecordSchema, { memory: { ...memory, metadata: {} } });
    await importRecords(target, [record], { replace: false }, never);
    expect((await importInto(path, target)).counts).toEqual({ unchanged: 1 });
    expect((await verify(path, target)).differences).toEqual([]);
  });

  test("reports missing, changed and extra memories", async () => {
    const rows = ["a", "b", "c"].map((id) => ({ id, content: `content of ${id}` }));
    const path = await writeLegacyDirectory(newPath(), rows);
    const target = targetOf("differences");
    await importInto(path, target);
    const { memories } = local.client.raw;
    await memories.delete({ domain: target.domain, id: "a" });
    await memories.update({
      memory: { domain: target.domain, id: "b", tags: ["new"] },
      updateMask: { paths: ["tags"] },
    });
    const other = await writeLegacyDirectory(newPath(), [{ id: "x", content: "of another directory" }]);
    await importInto(other, target);
    const { result, differences } = await verify(path, target);
    expect(differences.map(({ id, what }) => [id, what])).toEqual([
      ["a", "missing"],
      ["b", "changed"],
      ["x", "extra"],
    ]);
    expect(result).toMatchObject({ memories: 3, equal: 1, missing: 1, changed: 1, differing: 0, extra: 1 });
  });

  test("names the memories that a domain rejects as duplicates", async () => {
    const target = targetOf("once");
    await local.client.raw.domains.createDomain({ name: "once", deduplicateContent: true });
    const path = await writeLegacyDirectory(newPath(), [
      { id: "a", content: "the same" },
      { id: "b", content: "the same" },
    ]);
    const { counts, details } = await importInto(path, target);
    expect(counts).toEqual({ created: 1, duplicates: 1 });
    expect(details).toMatchObject([{ id: "b", what: "duplicate" }]);
  });

  // The last test, because embedding the text slows down later ones.
  test("imports a text of 5 MB into a target without a limit on messages", async () => {
    const content = Array.from({ length: 600_000 }, (_, n) => `word${n}`).join(" ");
    const path = await writeLegacyDirectory(newPath(), [{ id: "large", content }]);
    const target = targetOf("large");
    const remote = await importInto(path, { ...target, remote: true });
    expect(remote.counts).toEqual({ rejected: 1 });
    expect(remote.details[0]?.detail).toMatch(
      /^it has \d{7} bytes as a message, but a server accepts at most 4194304; /,
    );
    expect((await importInto(path, target)).counts).toEqual({ created: 1 });
    expect((await verify(path, target)).differences).toEqual([]);
  });
});

describe("writes to the quarantine what is not a live memory", () => {
  test.each([
    ["small", { tombstone: 26, "stale-chunk": 4 }],
    ["clean", { tombstone: 15 }],
    ["orphan-chunks-deleted-rows", { "orphan-chunk": 2 }],
    ["fork-agency", { tombstone: 28, "orphan-chunk": 7, version: 19, checkpoint: 1 }],
    ["fork-agency.export.json", { version: 19, checkpoint: 1 }],
    ["no-vectors", {}],
  ])("%s", async (fixture, expected) => {
    const directory = await temporaryDirectory();
    const source = await openLegacySource(join(fixturesDirectory, fixture), never);
    try {
      const file = join(directory.path, "quarantine.jsonl");
      const counts = await quarantine(source, file, 0n);
      expect(Object.fromEntries(Object.entries(counts).filter(([, count]) => count > 0))).toEqual(expected);
      const lines = (await readFile(file, "utf8")).split("\n").slice(0, -1);
      const entries = lines.map(
        (line) => JSON.parse(line) as { kind: string; content?: string; memory_id?: string },
      );
      expect(entries).toHaveLength(Object.values(expected).reduce((sum, count) => sum + count, 0));
      for (const { kind, content, memory_id } of entries) {
        if (kind === "checkpoint") continue;
        expect(content?.length).toBeGreaterThan(0);
        expect(memory_id).toMatch(/^mem_\d{13}$/);
      }
      expect(await readdir(directory.path)).toEqual(["quarantine.jsonl"]);
      expect(await quarantine(source, undefined, 0n)).toEqual(counts);
    } finally {
      await source.close();
      await directory.remove();
    }
  });
});

const text = (...bytes: number[]) => Uint8Array.from(bytes);
const metadata = (json: string) => `{${json}, "created_at": 1750000000.5, "updated_at": 1750000000.5}`;

/** Rows that only direct callers of the library or accidents produce. */
const adversarial: readonly Row[] = [
  { id: "empty", content: "" },
  { id: "white", content: " \n\t" },
  { id: "nul", content: "before\0after" },
  { id: "broken", content: text(0x61, 0xff, 0xed, 0xa0, 0xbd) },
  { id: "line", content: `${"x".repeat(199_999)}.` },
  { id: "long", content: "A sentence of some words. ".repeat(45_000) },
  { id: "mark", content: "\ufeffbehind a byte order mark", metadata: metadata('"source": "\\ufeffx"') },
  { id: "crlf", content: "one\r\n\r\ntwo  \r\n" },
  { id: "nan", content: "c", metadata: metadata('"importance": NaN') },
  { id: "important", content: "c", metadata: metadata('"importance": 17.5') },
  { id: "unimportant", content: "c", metadata: metadata('"importance": -3') },
  { id: "surrogate", content: "c", metadata: metadata('"a\\ud83d": "\\udc00"') },
  { id: "nulls", content: "c", metadata: metadata('"a": "\\u0000"') },
  { id: "proto", content: "c", metadata: metadata('"__proto__": {"a": 1}, "constructor": 2') },
  { id: "big", content: "c", metadata: metadata('"n": 123456789012345678901234567890, "m": 1e400') },
  { id: "nested", content: "c", metadata: metadata(`"a": ${"[".repeat(90)}${"]".repeat(90)}`) },
  { id: "wide", content: "c", metadata: metadata(`"a": "${"y".repeat(100_000)}"`) },
  {
    id: "many tags",
    content: "c",
    metadata: metadata(`"tags": [${'"t", '.repeat(99)}"${"u".repeat(500)}"]`),
  },
  { id: "no json", content: "c", metadata: "{'a': 1}" },
  { id: "time", content: "c", created_at: "yesterday", updated_at: Number.POSITIVE_INFINITY },
  { id: "key", content: "c", metadata: metadata(`"${LEGACY_KEY}": {"run": "mine"}`) },
  { id: null, content: "an id that is null" },
  { id: "ein/Ort mit Ümläuten", content: "c" },
  { id: "i".repeat(300), content: "c" },
];

const ALTERED = 14;

function isOver(end: number | null | undefined): boolean {
  return end !== null && end !== undefined && end * 1_000 < Date.now();
}

function runOf(metadata: unknown): unknown {
  return (metadata as Record<string, Record<string, unknown>>)[LEGACY_KEY]?.run;
}

async function changeRow(path: string, id: string, content: string): Promise<void> {
  const { DatabaseSync } = await import("node:sqlite");
  const database = new DatabaseSync(join(path, "memory.db"));
  database
    .prepare("update memories set content = ?, updated_at = updated_at + 10 where id = ?")
    .run(content, id);
  database.close();
}
