import { cp, readFile } from "node:fs/promises";
import { join } from "node:path";

/** Data directories of the old server. The known facts about each are in X.truth.json. */
export const FIXTURES = [
  "clean",
  "small",
  "no-vectors",
  "orphan-chunks-deleted-rows",
  "corrupt-json-restarted",
  "truncated-files",
  "dim1024",
  "fork-agency",
] as const;

export type Fixture = (typeof FIXTURES)[number];

export const fixturesDirectory = join(import.meta.dirname, "../fixtures/legacy");

export interface Truth {
  readonly summary: {
    readonly memories: number;
    readonly faiss_ntotal: number;
    readonly faiss_d: number;
    readonly metadata_chunks: number;
    readonly vector_state: Readonly<Partial<Record<VectorState, number>>>;
    readonly text_stale: number;
    readonly metadata_stale: number;
    readonly tombstones: number;
    readonly tombstones_linkable_by_created_at: number;
    readonly orphan_chunks: number;
    readonly chunks_not_in_id_map: number;
    readonly zero_rows: number;
  };
  readonly memories: readonly {
    readonly id: string;
    readonly vector_state: VectorState;
    readonly text_stale: boolean;
    readonly metadata_stale: boolean;
    readonly live_chunks: readonly number[];
    readonly zero_chunks: readonly number[];
    readonly expected_chunks_of_current_text: number;
    readonly content_utf8_sha256: string;
    readonly metadata_text: string;
    readonly created_at: number;
    readonly updated_at: number;
    readonly tags?: string;
    readonly expires_at?: number | null;
  }[];
  readonly faiss_rows: readonly {
    readonly row: number;
    readonly norm: number;
    readonly sha256_of_768_le_float32: string;
    readonly text_id: string | null;
    readonly tombstone_of?: readonly string[];
    readonly orphan?: boolean;
  }[];
}

export type VectorState = "ok" | "zero" | "partial-zero" | "wrong-vector" | "none" | "no-row";

export async function readTruth(fixture: Fixture): Promise<Truth> {
  return JSON.parse(await readFile(join(fixturesDirectory, `${fixture}.truth.json`), "utf8")) as Truth;
}

/** Copies a fixture for a test, because SQLite may write while reading. */
export async function copyFixture(fixture: Fixture, to: string): Promise<string> {
  const path = join(to, fixture);
  await cp(join(fixturesDirectory, fixture), path, { recursive: true });
  return path;
}
