import type { Ledger } from "./ledger.ts";

/** A memory as it is found in the end. */
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

/** What is off, as ids of memories. */
export interface Findings {
  /** Acknowledged and not there. */
  readonly missing: readonly string[];
  /** There twice, or their content under another id, too. */
  readonly duplicated: readonly string[];
  readonly wrongContent: readonly string[];
  /** Their deletion was acknowledged, and they are there. */
  readonly undeleted: readonly string[];
  /** There, and stored by nobody. */
  readonly foreign: readonly string[];
  readonly notReady: readonly string[];
  /** Not embedded as a calm server embeds them. */
  readonly wrongVectors: readonly string[];
}

/** Float32 numbers that went through a normalisation on either side. */
const LARGEST_DIFFERENCE = 1e-6;

/**
 * Compares what is there with what there must be. A memory whose last call has an unknown outcome may be as before
 * that call or as after it.
 *
 * @param embeddingOf what a calm embedder makes of a chunk's text
 */
export async function findWrongs(
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
    wrongVectors: [] as string[],
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
    else if (!isEmbedded(memory, embeddingOf)) findings.wrongVectors.push(id);
  }
  for (const id of known) {
    if (!seen.has(id) && !ledger.possible(id).includes(undefined)) findings.missing.push(id);
  }
  return findings;
}

/** True if the chunks hold all of the content, and each has the embedding of its text. */
function isEmbedded({ content, chunks }: FoundMemory, embeddingOf: (text: string) => Float32Array): boolean {
  const points = [...content];
  const texts = chunks.map(({ start, end }) => points.slice(start, end).join(""));
  return (
    withoutSpace(texts.join("")) === withoutSpace(content) &&
    chunks.every(({ embedding }, n) => isEqual(embedding, embeddingOf(texts[n] ?? "")))
  );
}

/** Chunks of nothing but white space are left out. */
function withoutSpace(text: string): string {
  return text.replaceAll(/\s+/gu, "");
}

function isEqual(one: Float32Array, other: Float32Array): boolean {
  return (
    one.length === other.length &&
    one.every((value, n) => Math.abs(value - (other[n] ?? Number.NaN)) <= LARGEST_DIFFERENCE)
  );
}
