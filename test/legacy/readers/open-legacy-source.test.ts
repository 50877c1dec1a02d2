import { execFile } from "node:child_process";
import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { quarantine } from "../../../src/legacy/import/quarantine.ts";
import { openLegacySource } from "../../../src/legacy/readers/open-legacy-source.ts";
import { temporaryDirectory } from "../../support/temporary-directory.ts";
import { FIXTURES, fixturesDirectory, readTruth, type Truth } from "../fixtures.ts";
import { type ChunkRow, FIRST_TIME, indexOf, writeLegacyDirectory } from "../write-directory.ts";

const never = new AbortController().signal;

const makePipe = (path: string) => promisify(execFile)("mkfifo", [path]);

/** Converts the known facts about a fixture to findings. */
function expected({ summary, memories }: Truth, problem: boolean) {
  const { vector_state: states } = summary;
  return {
    states: {
      ok: states.ok ?? 0,
      zero: states.zero ?? 0,
      "partly-zero": states["partial-zero"] ?? 0,
      missing: states.none ?? 0,
      "no-row": states["no-row"] ?? 0,
      unreliable: states["wrong-vector"] ?? 0,
    },
    textStale: summary.text_stale,
    metadataStale: summary.metadata_stale,
    tombstones: summary.tombstones,
    tombstonesLinked: summary.tombstones_linkable_by_created_at,
    orphans: summary.orphan_chunks,
    zeroRows: summary.zero_rows,
    ...(problem ? {} : { notMapped: summary.chunks_not_in_id_map, chunks: summary.metadata_chunks }),
    memories: memories.length,
  };
}

describe("the findings match the known facts of a fixture", () => {
  test.each(FIXTURES)("%s", async (fixture) => {
    const source = await openLegacySource(join(fixturesDirectory, fixture), never);
    try {
      const { findings } = source.vectors;
      const truth = await readTruth(fixture);
      const damaged = fixture === "truncated-files";
      expect({ ...findings, memories: source.database.count("memories") }).toMatchObject(
        expected(truth, damaged),
      );
      expect(findings.problem).toEqual(
        {
          "truncated-files": expect.stringMatching(
            /^faiss_index\.bin is truncated.*; faiss_metadata\.json ends prematurely$/,
          ),
          "corrupt-json-restarted":
            "faiss_index.bin has 13 rows for 5 chunks; a crash between the writes of the two files shifted them",
        }[fixture as string],
      );
      const state: Record<string, string> = {
        "partial-zero": "partly-zero",
        none: "missing",
        "wrong-vector": "unreliable",
      };
      const stale = source.scratch.prepare("select key, state, stale from memory order by key").all();
      expect(stale.map((row) => ({ ...row }))).toEqual(
        truth.memories
          .map(({ id, vector_state, text_stale, metadata_stale }) => ({
            key: JSON.stringify(id),
            state: state[vector_state] ?? vector_state,
            stale: text_stale ? "text" : metadata_stale ? "metadata" : null,
          }))
          .toSorted((a, b) => (a.key < b.key ? -1 : 1)),
      );
    } finally {
      await source.close();
    }
  });
});

describe("damage that no fixture contains", () => {
  let directory: Awaited<ReturnType<typeof temporaryDirectory>>;

  beforeAll(async () => {
    directory = await temporaryDirectory();
  });
  afterAll(() => directory?.remove());

  const MEMORIES = ["a", "b", "c"].map((id) => ({ id, content: `the text of ${id}` }));
  const CHUNKS = MEMORIES.map(({ id, content }) => ({ text_id: id, content }));
  let written = 0;

  async function findingsOf(
    chunks: readonly ChunkRow[],
    damage: (path: string) => Promise<unknown> = async () => {},
  ) {
    const path = await writeLegacyDirectory(join(directory.path, `damaged${written++}`), MEMORIES, chunks);
    await damage(path);
    const source = await openLegacySource(path, never);
    try {
      const { findings } = source.vectors;
      const states = Object.fromEntries(Object.entries(findings.states).filter(([, count]) => count > 0));
      const quarantined = await quarantine(source, undefined, 0n);
      const counts = Object.fromEntries(Object.entries(quarantined).filter(([, count]) => count > 0));
      expect(source.database.count("memories")).toBe(3);
      return { problem: findings.problem, states, quarantine: counts, notMapped: findings.notMapped };
    } finally {
      await source.close();
    }
  }
  const metadataOf = (path: string) => join(path, "faiss_metadata.json");
  const indexPath = (path: string) => join(path, "faiss_index.bin");
  const rewrite = (path: string, change: (text: string) => string) =>
    readFile(path, "utf8").then((text) => writeFile(path, change(text)));

  test("no damage", async () => {
    expect(await findingsOf(CHUNKS)).toEqual({
      problem: undefined,
      states: { ok: 3 },
      quarantine: {},
      notMapped: 0,
    });
  });

  test("a crash between the writes of the two files shifted all rows", async () => {
    const found = await findingsOf(CHUNKS, (path) =>
      writeFile(indexPath(path), indexOf([[1], [1], [1], [1]])),
    );
    expect(found).toMatchObject({
      problem:
        "faiss_index.bin has 4 rows for 3 chunks; a crash between the writes of the two files shifted them",
      states: { unreliable: 3 },
    });
  });

  test("the last of two servers won, and the memories of the other have no chunks", async () => {
    const found = await findingsOf(CHUNKS.slice(0, 1));
    expect(found).toMatchObject({ problem: undefined, states: { ok: 1, missing: 2 } });
  });

  test("vectors contain NaN or infinity", async () => {
    const found = await findingsOf(CHUNKS, (path) =>
      writeFile(indexPath(path), indexOf([[1], [1, Number.NaN], [Number.NEGATIVE_INFINITY]])),
    );
    expect(found).toMatchObject({ problem: undefined, states: { ok: 1, zero: 2 } });
  });

  test("a partly failed store left a chunk out of the map", async () => {
    const found = await findingsOf(CHUNKS, (path) =>
      rewrite(metadataOf(path), (text) => text.replace('"b":[1],', "")),
    );
    expect(found).toMatchObject({ states: { ok: 3 }, notMapped: 1 });
  });

  test("the copies of metadata contain NaN and an unpaired surrogate", async () => {
    const found = await findingsOf(CHUNKS, (path) =>
      rewrite(metadataOf(path), (text) =>
        text.replaceAll('"metadata":{', '"metadata":{"importance": NaN, "k\\ud83d": -Infinity, '),
      ),
    );
    expect(found).toMatchObject({ problem: undefined, states: { ok: 3 } });
  });

  test("tombstones and orphans are recovered from a truncated file", async () => {
    const chunks = [
      { text_id: null, content: "a former text", created_at: FIRST_TIME },
      { text_id: "gone", content: "of a memory that is gone" },
      ...CHUNKS,
    ];
    const found = await findingsOf(chunks, (path) =>
      rewrite(metadataOf(path), (text) => text.slice(0, -250)),
    );
    expect(found).toMatchObject({
      problem: "faiss_metadata.json ends prematurely",
      states: { missing: 3 },
      quarantine: { tombstone: 1, "orphan-chunk": 1 },
    });
  });

  test("a chunk with an earlier text is recovered without an index", async () => {
    const stale = { text_id: "a", content: "a former text", updated_at: FIRST_TIME - 1 };
    const found = await findingsOf([stale, ...CHUNKS.slice(1)], (path) => rm(indexPath(path)));
    expect(found).toMatchObject({
      problem: "faiss_index.bin is missing",
      states: { missing: 3 },
      quarantine: { "stale-chunk": 1 },
    });
  });

  test("bytes after the damage in the chunks are kept unchanged", async () => {
    const chunks = [
      ...CHUNKS,
      { text_id: null, content: "a former text" },
      { text_id: null, content: "more" },
    ];
    const path = await writeLegacyDirectory(join(directory.path, "unread"), MEMORIES, chunks);
    const whole = await readFile(metadataOf(path));
    const at = whole.indexOf("a former");
    whole[at] = 0xff;
    await writeFile(metadataOf(path), whole);
    const source = await openLegacySource(path, never);
    const file = join(directory.path, "quarantine.jsonl");
    const counts = await quarantine(source, file, 0n);
    await source.close();
    expect(counts).toMatchObject({ tombstone: 0, unread: 1 });
    const entry = JSON.parse(await readFile(file, "utf8"));
    expect(entry).toMatchObject({ kind: "unread", file: "faiss_metadata.json" });
    expect(entry.content).toContain("\ufffd former text");
    const saved = Buffer.from(entry.original.blob_base64, "base64");
    expect(saved.equals(whole.subarray(entry.byte))).toBe(true);
    expect(entry.byte).toBeLessThan(at);
  });

  test.each<[string, (path: string) => Promise<unknown>, RegExp]>([
    ["the index is missing", (path) => rm(indexPath(path)), /^faiss_index\.bin is missing$/],
    ["the chunks are missing", (path) => rm(metadataOf(path)), /^faiss_metadata\.json is missing$/],
    [
      "the chunks are empty",
      (path) => writeFile(metadataOf(path), ""),
      /^faiss_metadata\.json ends prematurely$/,
    ],
    [
      "the chunks are not JSON",
      (path) => writeFile(metadataOf(path), "garbage"),
      /^faiss_metadata\.json does not start with a JSON object/,
    ],
    [
      "the chunks are a directory",
      (path) => rm(metadataOf(path)).then(() => mkdir(metadataOf(path))),
      /^faiss_metadata\.json cannot be read/,
    ],
    [
      "the chunks are a pipe",
      (path) => rm(metadataOf(path)).then(() => makePipe(metadataOf(path))),
      /^faiss_metadata\.json cannot be read \(it is not a file\)$/,
    ],
    [
      "the index is a directory",
      (path) => rm(indexPath(path)).then(() => mkdir(indexPath(path))),
      /^faiss_index\.bin cannot be read \(it is not a file\)$/,
    ],
    [
      "the index is a pipe",
      (path) => rm(indexPath(path)).then(() => makePipe(indexPath(path))),
      /^faiss_index\.bin cannot be read \(it is not a file\)$/,
    ],
    ["the index is empty", (path) => writeFile(indexPath(path), ""), /^faiss_index\.bin is truncated/],
  ])("%s", async (_, damage, problem) => {
    expect(await findingsOf(CHUNKS, damage)).toMatchObject({
      problem: expect.stringMatching(problem),
      states: { missing: 3 },
    });
  });
});

describe("an export", () => {
  let directory: Awaited<ReturnType<typeof temporaryDirectory>>;

  beforeAll(async () => {
    directory = await temporaryDirectory();
  });
  afterAll(() => directory?.remove());

  const ENTRY = { id: "a", content: "text", tags: [], metadata: {}, created_at: 1.5, updated_at: 1.5 };

  async function open(value: unknown) {
    const path = join(directory.path, "export.json");
    await writeFile(path, JSON.stringify(value));
    return await openLegacySource(path, never);
  }

  test("unknown keys and entries go to the quarantine", async () => {
    const entry = { ...ENTRY, domain: "kitchen" };
    const source = await open({
      version: 1,
      exported_at: 1.5,
      memories: [ENTRY, entry],
      notes: ["x"],
      by: "me",
    });
    const path = join(directory.path, "quarantine.jsonl");
    expect(source.database.count("memories")).toBe(2);
    await quarantine(source, path, 0n);
    await source.close();
    const lines = (await readFile(path, "utf8")).trimEnd().split("\n");
    expect(lines.map((line) => JSON.parse(line).original)).toEqual([
      { place: "memories", json: JSON.stringify(entry) },
      { place: "notes", json: '"x"' },
      { place: "by", json: '"me"' },
    ]);
  });

  test.each<[string, unknown, string]>([
    ["without memories", { version: 1, notes: [ENTRY] }, "has no memories; it is not an export"],
    [
      "memories by name",
      { version: 1, memories: { a: ENTRY } },
      "has memories that are not a list; it is not an export",
    ],
    [
      "memories that are null",
      { version: 1, memories: null },
      "has memories that are not a list; it is not an export",
    ],
    [
      "a memory that is text",
      { version: 1, memories: ["text"] },
      "has an entry of memories that is not an object",
    ],
    [
      "another version",
      { version: 2, memories: [] },
      "has version 2; only exports of the fork with version 1",
    ],
  ])("rejects %s", async (_, value, sentence) => {
    await expect(open(value)).rejects.toThrow(sentence);
  });
});
