import type { Ledger } from "./ledger.ts";

/** A memory as found at the end of the run. */
export interface FoundMemory {
  readonly id: string;
  readonly content: string;
  readonly ready: boolean;
  readonly chunks: readonly FoundChunk[];
}

/** Offsets are Unicode code points, as in an export. */
export interface FoundChunk {
  readonly start: number;
  readonly end: number;
  readonly embedding: Float32Array;
}

/** Violations, as ids of memories. */
export interface Findings {
  /** Acknowledged but missing. */
  readonly missing: readonly string[];
  /** Present twice, or the same content is stored under another id too. */
  readonly duplicated: readonly string[];
  readonly wrongContent: readonly string[];
  /** Present although their deletion was acknowledged. */
  readonly undeleted: readonly string[];
  /** Present although no client stored them. */
  readonly foreign: readonly string[];
  readonly notReady: readonly string[];
  /** Embedded differently from an undisturbed server. */
  readonly wrongEmbeddings: readonly string[];
}

/** Tolerance for Float32 numbers that either side has normalised. */
const LARGEST_DIFFERENCE = 1e-6;

/**
 * Compares the stored memories with the expected ones. A memory whose last call has an unknown outcome may have the
 * state before or after that call.
 *
 * @param embeddingOf returns what an undisturbed embedder computes for a chunk's text
 */
export async function findViolations(
  ledger: Ledger,
  found: AsyncIterable<FoundMemory> | Iterable<FoundMemory>,
  embeddingOf: (text: string) => Float32Array,
): Promise<Findings> {
  const findings = {
    missing: [] as string[],
    duplicated: [] as string[],
    wrongContent: [] as string[],
    undeleted: [] as string[],
    foreign: [] as string[],
    notReady: [] as string[],
    wrongEmbeddings: [] as string[],
  };
  const known = new Set(ledger.ids());
  const seen = new Set<string>();
  const contents = new Set<string>();
  for await (const memory of found) {
    const { id, content } = memory;
    const possible = ledger.possible(id);
    if (seen.has(id) || contents.has(content)) findings.duplicated.push(id);
    seen.add(id);
    contents.add(content);
    if (!known.has(id)) findings.foreign.push(id);
    else if (possible.every((held) => held === undefined)) findings.undeleted.push(id);
    else if (!possible.includes(content)) findings.wrongContent.push(id);
    if (!memory.ready) findings.notReady.push(id);
    else if (!isEmbedded(memory, embeddingOf)) findings.wrongEmbeddings.push(id);
  }
  for (const id of known) {
    if (!seen.has(id) && !ledger.possible(id).includes(undefined)) findings.missing.push(id);
  }
  return findings;
}

/** Checks that the chunks cover the whole content, and that each has the embedding of its text. */
function isEmbedded({ content, chunks }: FoundMemory, embeddingOf: (text: string) => Float32Array): boolean {
  const points = [...content];
  const texts = chunks.map(({ start, end }) => points.slice(start, end).join(""));
  return (
    withoutSpace(texts.join("")) === withoutSpace(content) &&
    chunks.every(({ embedding }, n) => isEqual(embedding, embeddingOf(texts[n] ?? "")))
  );
}

/** Omits chunks of only white space. */
function withoutSpace(text: string): string {
  return text.replaceAll(/\s+/gu, "");
}

function isEqual(one: Float32Array, other: Float32Array): boolean {
  return (
    one.length === other.length &&
    one.every((value, n) => Math.abs(value - (other[n] ?? Number.NaN)) <= LARGEST_DIFFERENCE)
  );
}
