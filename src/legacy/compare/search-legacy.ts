import { StartupError } from "../../memory/model/errors.ts";
import type { LegacySource } from "../readers/open-legacy-source.ts";
import { MEMORIES } from "../readers/read-database.ts";
import { decodeText } from "../readers/stored-value.ts";
import type { CompareQuery } from "./compare-queries.ts";

/** A memory of an old answer. */
export interface LegacyHit {
  readonly id: string;
  /** Cosine of the query and its best chunk; undefined: found by words, or the newest. */
  readonly similarity: number | undefined;
}

/** What the old system answers, from all of its vectors that mean something. */
export interface LegacyAnswer {
  readonly hits: readonly LegacyHit[];
  /**
   * Whether the first hit stands out: its similarity lies at least 4 standard deviations above the mean of all memories,
   * and above the second hit's. Otherwise the old answer is the least bad of many that are alike. True where words
   * were looked for.
   */
  readonly clear: boolean;
}

/** At most so many standard deviations above the mean is what some unrelated memory always reaches. */
const CLEAR_DEVIATIONS = 4;
const CLEAR_MARGIN = 0.02;

/**
 * Answers questions as the old system does, but from all rows and not from the nearest only: each memory by its best chunk,
 * without rows of zeros (which pretend a cosine of .5), former texts and memories that are gone. Reads the index once.
 * Without vectors, or without a text, its search by words answers.
 */
export async function searchLegacy(
  source: LegacySource,
  queries: readonly CompareQuery[],
  signal: AbortSignal,
): Promise<LegacyAnswer[]> {
  const { index, findings } = source.vectors;
  const usable = index !== undefined && findings.problem === undefined;
  const byVector = queries.flatMap((query, position) => {
    if (!usable || !query.useVector || query.text === "" || query.embedding === undefined) return [];
    if (query.embedding.length !== index.dimensions) {
      throw new StartupError(
        `the old vectors have ${index.dimensions} numbers, the embedding of ${JSON.stringify(query.text)} has ${query.embedding.length}`,
        { remedy: "set OLLAMA_EMBEDDING_MODEL to the model of the old system" },
      );
    }
    return [{ position, vector: unit(query.embedding), best: new Map<string, number>() }];
  });
  if (usable && byVector.length > 0) {
    const live = source.scratch.prepare(
      `select c.row, c.key from chunk c join memory m on m.key = c.key where c.zero = 0 and c.row < ? order by c.row`,
    );
    for (const { row, key } of live.iterate(index.rows)) {
      signal.throwIfAborted();
      const vector = await index.row(Number(row));
      for (const query of byVector) {
        const similarity = dot(query.vector, vector);
        const known = query.best.get(String(key));
        if (known === undefined || similarity > known) query.best.set(String(key), similarity);
      }
    }
  }
  const answers = new Map(byVector.map(({ position, best }) => [position, best]));
  return queries.map((query, position) => {
    const best = answers.get(position);
    return best !== undefined && best.size > 0 ? nearest(best, query.limit) : byWords(source, query);
  });
}

function nearest(best: ReadonlyMap<string, number>, limit: number): LegacyAnswer {
  const ranked = [...best].sort(([, a], [, b]) => b - a);
  const similarities = ranked.map(([, similarity]) => similarity);
  const mean = similarities.reduce((sum, value) => sum + value, 0) / similarities.length;
  const variance = similarities.reduce((sum, value) => sum + (value - mean) ** 2, 0) / similarities.length;
  const [first = 0, second = -1] = similarities;
  return {
    hits: ranked.slice(0, limit).map(([key, similarity]) => ({ id: String(JSON.parse(key)), similarity })),
    clear: first - mean >= CLEAR_DEVIATIONS * Math.sqrt(variance) && first - second >= CLEAR_MARGIN,
  };
}

/** `content like '%...%'` of SQLite: capitals of ASCII only do not matter, `%` and `_` stand for others; newest first. */
function byWords(source: LegacySource, { text, limit }: CompareQuery): LegacyAnswer {
  const pattern = new RegExp(
    [...foldAscii(text)]
      .map((character) =>
        character === "%"
          ? ".*"
          : character === "_"
            ? "."
            : character.replace(/[\\^$.*+?()[\]{}|/]/g, "\\$&"),
      )
      .join(""),
    "su",
  );
  const found: { readonly id: string; readonly updated: number }[] = [];
  for (const { id = null, content = null, updated_at } of source.database.rows(MEMORIES)) {
    if (pattern.test(foldAscii(decodeText(content).text))) {
      found.push({ id: decodeText(id).text, updated: typeof updated_at === "number" ? updated_at : 0 });
    }
  }
  found.sort((a, b) => b.updated - a.updated);
  return {
    hits: found.slice(0, limit).map(({ id }) => ({ id, similarity: undefined })),
    clear: found.length === 1,
  };
}

function foldAscii(text: string): string {
  return text.replace(/[A-Z]+/g, (letters) => letters.toLowerCase());
}

function unit(vector: Float32Array): Float32Array {
  const length = Math.hypot(...vector);
  return length === 0 ? vector : vector.map((value) => value / length);
}

function dot(a: Float32Array, b: Float32Array): number {
  let sum = 0;
  for (let n = 0; n < a.length; n++) sum += (a[n] ?? 0) * (b[n] ?? 0);
  return sum;
}
