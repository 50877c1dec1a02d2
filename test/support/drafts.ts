import { randomUUID } from "node:crypto";
import { DEFAULT_DOMAIN_SETTINGS, type DomainRecord } from "../../src/memory/model/domain.ts";
import type { ContentEmbedding, MemoryDraft } from "../../src/memory/model/draft.ts";

/** A memory to be written, pending and due at once, with whatever a test cares about. */
export function draft(fields: Partial<MemoryDraft> = {}): MemoryDraft {
  return {
    id: `m-${randomUUID()}`,
    content: "a memory",
    source: "",
    importance: undefined,
    tags: [],
    metadata: {},
    expiry: { kind: "never" },
    chunkCount: 1,
    embedding: undefined,
    leaseMs: 0,
    ...fields,
  };
}

/** A vector of unit length and three dimensions: at this angle (in degrees) from the first axis. */
export function at(degrees: number): Float32Array {
  const radians = (degrees * Math.PI) / 180;
  return Float32Array.of(Math.cos(radians), Math.sin(radians), 0);
}

/** An embedding whose chunks, ten characters each, lie at these angles. */
export function embedding(version: number, ...degrees: readonly number[]): ContentEmbedding {
  return {
    version,
    chunks: degrees.map((angle, index) => ({ start: index * 10, end: index * 10 + 10, vector: at(angle) })),
  };
}

/** The name of a domain that no other test uses, as long as one may be: statements and indexes are named by it. */
export function newDomainName(): string {
  return `longest_${randomUUID().replaceAll("-", "")}`;
}

/** Microseconds since 1970, of now and a little more. */
export function microsecondsFromNow(seconds: number): bigint {
  return (BigInt(Date.now()) + BigInt(Math.round(seconds * 1_000))) * 1_000n;
}

/** A domain as the catalogue knows it, with whatever a test cares about. */
export function domainRecord(fields: Partial<DomainRecord> = {}): DomainRecord {
  return {
    ...DEFAULT_DOMAIN_SETTINGS,
    id: 1n,
    name: newDomainName(),
    createTime: 0n,
    dimensions: undefined,
    embeddingVersion: undefined,
    ...fields,
  };
}
