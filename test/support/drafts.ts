import { randomUUID } from "node:crypto";
import { DEFAULT_DOMAIN_SETTINGS, type DomainRecord } from "../../src/memory/model/domain.ts";
import type { ContentEmbedding, MemoryDraft } from "../../src/memory/model/draft.ts";

/** Creates a memory draft that is pending and due at once, with the given fields replaced. */
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

/** Returns a unit vector of three dimensions at this angle (in degrees) from the first axis. */
export function at(degrees: number): Float32Array {
  const radians = (degrees * Math.PI) / 180;
  return Float32Array.of(Math.cos(radians), Math.sin(radians), 0);
}

/** Returns an embedding with chunks of ten characters at these angles. */
export function embedding(version: number, ...degrees: readonly number[]): ContentEmbedding {
  return {
    version,
    chunks: degrees.map((angle, index) => ({ start: index * 10, end: index * 10 + 10, vector: at(angle) })),
  };
}

/** Returns a domain name that no other test uses, of the maximum length: statements and index names contain it. */
export function newDomainName(): string {
  return `longest_${randomUUID().replaceAll("-", "")}`;
}

/** Returns the time `seconds` from now, in microseconds since 1970. */
export function microsecondsFromNow(seconds: number): bigint {
  return (BigInt(Date.now()) + BigInt(Math.round(seconds * 1_000))) * 1_000n;
}

/** Creates a domain record of the catalogue, with the given fields replaced. */
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
