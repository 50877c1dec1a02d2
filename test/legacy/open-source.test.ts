import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { openLegacySource } from "../../src/legacy/open-source.ts";
import { FIXTURES, fixturesDirectory, readTruth, type Truth } from "./fixtures.ts";

const never = new AbortController().signal;

/** What the truth says, in our words. */
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

describe("a directory is found to be as the truth says", () => {
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
            /^faiss_index\.bin is cut.*; faiss_metadata\.json ends too early$/,
          ),
          "corrupt-json-restarted":
            "faiss_index.bin has 13 rows for 5 chunks: a crash between its files has shifted them",
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
