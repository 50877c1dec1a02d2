import { createHash } from "node:crypto";
import { truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { copyDatabase } from "../../../src/legacy/readers/copy-database.ts";
import { legacyChunks } from "../../../src/legacy/readers/legacy-chunker.ts";
import { openLegacyDatabase } from "../../../src/legacy/readers/read-database.ts";
import { openFaissIndex } from "../../../src/legacy/readers/read-faiss-index.ts";
import { type Member, readJsonMembers } from "../../../src/legacy/readers/read-json-members.ts";
import { decodeText } from "../../../src/legacy/readers/stored-value.ts";
import { temporaryDirectory } from "../../support/temporary-directory.ts";
import { copyFixture, FIXTURES, fixturesDirectory, readTruth } from "../fixtures.ts";

let directory: Awaited<ReturnType<typeof temporaryDirectory>>;

beforeAll(async () => {
  directory = await temporaryDirectory();
});

afterAll(() => directory?.remove());

const sha256 = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest("hex");

async function membersOf(path: string): Promise<Member[]> {
  const members: Member[] = [];
  for await (const member of readJsonMembers(path)) members.push(member);
  return members;
}

describe.each(FIXTURES)("%s", (fixture) => {
  test("has the known memories, byte for byte", async () => {
    const source = await copyFixture(fixture, directory.path);
    const scratch = await temporaryDirectory();
    const database = openLegacyDatabase(await copyDatabase(source, scratch.path), source);
    try {
      const truth = await readTruth(fixture);
      const rows = [...database.rows("memories")].map(
        ({ id, content, metadata, created_at, updated_at }) => ({
          id: decodeText(id ?? null).text,
          sha256: content !== null && typeof content === "object" ? sha256(content.bytes) : content,
          metadata: decodeText(metadata ?? null).text,
          created_at,
          updated_at,
        }),
      );
      expect(rows.toSorted((a, b) => (a.id < b.id ? -1 : 1))).toEqual(
        truth.memories
          .map(({ id, content_utf8_sha256, metadata_text, created_at, updated_at }) => ({
            id,
            sha256: content_utf8_sha256,
            metadata: metadata_text,
            created_at,
            updated_at,
          }))
          .toSorted((a, b) => (a.id < b.id ? -1 : 1)),
      );
      expect(database.count("memories")).toBe(rows.length);
    } finally {
      database.close();
      await scratch.remove();
    }
  });

  test("has as many chunks as the old server created", async () => {
    const scratch = await temporaryDirectory();
    const database = openLegacyDatabase(
      await copyDatabase(join(fixturesDirectory, fixture), scratch.path),
      fixture,
    );
    try {
      const truth = await readTruth(fixture);
      const chunks = new Map<string, number>();
      for (const { id, content } of database.rows("memories")) {
        chunks.set(decodeText(id ?? null).text, legacyChunks(decodeText(content ?? null).text).length);
      }
      expect(chunks).toEqual(
        new Map(truth.memories.map((memory) => [memory.id, memory.expected_chunks_of_current_text])),
      );
    } finally {
      database.close();
      await scratch.remove();
    }
  });

  test("has the known vectors, bit for bit", async () => {
    const { summary, faiss_rows } = await readTruth(fixture);
    const opened = await openFaissIndex(join(fixturesDirectory, fixture, "faiss_index.bin"));
    if (opened.kind !== "index") {
      expect(opened.kind).toBe(fixture === "no-vectors" ? "absent" : "unusable");
      expect(summary.faiss_ntotal).toBe(0);
      return;
    }
    try {
      expect(opened.index.rows).toBe(summary.faiss_ntotal);
      expect(opened.index.dimensions).toBe(summary.faiss_d);
      for (const { row, sha256_of_768_le_float32, norm } of faiss_rows) {
        const vector = await opened.index.row(row);
        expect(sha256(new Uint8Array(vector.buffer))).toBe(sha256_of_768_le_float32);
        expect(Math.hypot(...vector)).toBeCloseTo(norm, 5);
      }
      await expect(opened.index.row(opened.index.rows)).rejects.toThrow(RangeError);
    } finally {
      await opened.index.close();
    }
  });

  test("has the known chunks", async () => {
    const { summary } = await readTruth(fixture);
    if (fixture === "no-vectors") return;
    const members = await membersOf(join(fixturesDirectory, fixture, "faiss_metadata.json"));
    const chunks = members.filter((member) => member.kind === "element" && member.key === "chunks");
    const end = members.at(-1);
    if (fixture === "truncated-files") {
      expect(end).toEqual({ kind: "end", problem: "ends prematurely", unreadFrom: 1832 });
      expect(chunks).toHaveLength(5);
      return;
    }
    expect(end).toEqual({ kind: "end", problem: undefined });
    expect(chunks).toHaveLength(summary.metadata_chunks);
    for (const [row, chunk] of chunks.entries()) {
      if (chunk.kind === "element") expect(JSON.parse(chunk.json)).toMatchObject({ chunk_index: row });
    }
  });
});

describe("reads a JSON file up to the first damage", () => {
  const element = (key: string, json: string, name?: string) => ({ kind: "element", key, name, json });
  test.each<{ text: string; members: unknown[]; problem?: string; unreadFrom?: number }>([
    {
      text: '{"a":[1, {"b":"]}"},"x\\"y"],"c":{"k":[2]},"d":null}',
      members: [
        element("a", "1"),
        element("a", '{"b":"]}"}'),
        element("a", '"x\\"y"'),
        element("c", "[2]", "k"),
        { kind: "value", key: "d", json: "null" },
      ],
    },
    { text: "{}", members: [] },
    { text: '\ufeff{ "a" : [ ] }\n', members: [] },
    { text: '{"a":[NaN,-1e5]}', members: [element("a", "NaN"), element("a", "-1e5")] },
    { text: '{"a":["é"]}', members: [element("a", '"é"')] },
    { text: "", members: [], problem: "ends prematurely", unreadFrom: 0 },
    { text: "[1]", members: [], problem: "does not start with a JSON object", unreadFrom: 0 },
    { text: '{"a":[1,2', members: [element("a", "1")], problem: "ends prematurely", unreadFrom: 7 },
    { text: '{"a":[1,"b', members: [element("a", "1")], problem: "ends prematurely", unreadFrom: 7 },
    {
      text: '{"a":[1 2]}',
      members: [element("a", "1")],
      problem: "is not JSON from byte 9 on",
      unreadFrom: 8,
    },
    { text: '{"a":[1]}x', members: [element("a", "1")], problem: "has data after its end", unreadFrom: 9 },
    { text: "{a:1}", members: [], problem: "is not JSON from byte 2 on", unreadFrom: 0 },
  ])("$text", async ({ text, members, ...end }) => {
    const path = join(directory.path, "members.json");
    await writeFile(path, text);
    expect(await membersOf(path)).toEqual([...members, { kind: "end", ...end }]);
  });

  test("reads elements that span several blocks", async () => {
    const path = join(directory.path, "long.json");
    const elements = Array.from({ length: 50 }, (_, n) => ({ n, text: `\\"é`.repeat(n * 1_000) }));
    await writeFile(path, JSON.stringify({ chunks: elements }));
    const members = await membersOf(path);
    expect(
      members.slice(0, -1).map((member) => (member.kind === "element" ? JSON.parse(member.json) : member)),
    ).toEqual(elements);
  });
});

describe("reports why an index cannot be used", () => {
  const good = () => copyFixture("orphan-chunks-deleted-rows", directory.path);
  const change = async (path: string, at: number, bytes: readonly number[]) => {
    const { open } = await import("node:fs/promises");
    await using file = await open(path, "r+");
    await file.write(Uint8Array.from(bytes), 0, bytes.length, at);
  };
  test.each<[string, (path: string) => Promise<unknown>, RegExp]>([
    [
      "truncated in its header",
      (path) => truncate(path, 20),
      /^is truncated: it has 20 bytes, but its header takes 45$/,
    ],
    [
      "truncated in its rows",
      (path) => truncate(path, 36_000),
      /^is truncated or damaged: it has 36000 bytes instead of 36909$/,
    ],
    ["of another type", (path) => change(path, 0, [...Buffer.from("IwFl")]), /^has the type "IwFl"/],
    ["of another metric", (path) => change(path, 33, [0]), /^uses metric 0/],
    ["that is inconsistent", (path) => change(path, 4, [1]), /^is inconsistent/],
  ])("%s", async (_, damage, reason) => {
    const path = join(await good(), "faiss_index.bin");
    await damage(path);
    expect(await openFaissIndex(path)).toEqual({ kind: "unusable", reason: expect.stringMatching(reason) });
  });
});
