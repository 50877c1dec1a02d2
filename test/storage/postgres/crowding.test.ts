import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { SemanticQuery } from "../../../src/memory/model/search-index.ts";
import type { Database, Queryable } from "../../../src/storage/database/database.ts";
import { createPostgresRepository } from "../../../src/storage/postgres/create-repository.ts";
import { findNearest, type Scan } from "../../../src/storage/postgres/search/find-nearest.ts";
import { at, newDomainName } from "../../support/drafts.ts";
import { databaseEngines } from "../../support/postgres/databases.ts";

const BOOK_CHUNKS = 1_400;

describe.each(databaseEngines())("a book among short memories on $name", ({ open }) => {
  let database: Database;
  let domain: string;
  let version: number;
  let queries = 0;

  const point = (degrees: string) => `format('[%s,%s,0]', cosd(${degrees}), sind(${degrees}))::vector`;
  const insertMemories = (ids: string, degrees: string, from: number, to: number) =>
    database.query(
      {
        text: `insert into "${domain}_memories"
            (id, content, metadata, embedding, embedding_state, embedding_version)
          select ${ids}, 'x', '{}', ${point(degrees)}, 'ready', $1 from generate_series(${from}, ${to}) as i`,
      },
      [version],
    );
  const insertChunks = (id: string, degrees: string, count: number) =>
    database.query(
      {
        text: `insert into "${domain}_chunks"
            (memory_id, chunk_index, start_offset, end_offset, embedding, embedding_version)
          select $2, i, i, i + 1, ${point(degrees)}, $1 from generate_series(1, ${count}) as i`,
      },
      [version, id],
    );

  // From 0 degrees: the book with all its chunks up to 14 degrees, a second chunk at 20, short memories from 30 on.
  beforeAll(async () => {
    database = await open({ poolSize: 2 });
    const repository = createPostgresRepository(database);
    const space = { model: "m", digest: "", dimensions: 3, profile: "p/1" };
    version = await repository.registerEmbeddingVersion(space, 1);
    domain = newDomainName();
    await repository.createDomain(domain, 3);
    await repository.useEmbeddingVersion(domain, version, 3);
    await insertMemories("'book'", "170", 1, 1);
    await insertChunks("book", "i / 100.0", BOOK_CHUNKS);
    await insertMemories("'behind'", "175", 1, 1);
    await insertChunks("behind", "20", 1);
    await insertMemories("'short' || lpad(i::text, 3, '0')", "30 + i / 10.0", 1, 300);
    await database.execute(`analyze "${domain}_memories"; analyze "${domain}_chunks"`);
  });
  afterAll(() => database.close());

  const nearest = async (scan: Scan, fields: Partial<SemanticQuery> = {}) => {
    queries = 0;
    const counting: Pick<Queryable, "query"> = {
      query: (...args) => {
        queries++;
        return database.query(...args);
      },
    };
    const query = { embedding: at(0), embeddingVersion: version, depth: 100, minSimilarity: undefined };
    return await findNearest(counting, domain, { ...query, ...fields }, scan);
  };

  const scans: readonly Scan[] = [
    { kind: "exact", selective: false },
    { kind: "index", efSearch: 200, maxTuples: 20_000 },
  ];

  test.each(scans)("does not hide a chunk of another behind its own (%o)", async (scan) => {
    const { candidates, filled } = await nearest(scan);
    expect(candidates.slice(0, 3)).toMatchObject([
      { id: "book", chunkIndex: 1 },
      { id: "behind", chunkIndex: 1 },
      { id: "short001", chunkIndex: 0 },
    ]);
    expect(candidates).toHaveLength(100);
    expect(filled).toBe(true);
    expect(queries).toBe(2);
  });

  test.each(scans)("is not looked through where it is not near, nor near enough (%o)", async (scan) => {
    const { candidates } = await nearest(scan, { embedding: at(60), depth: 10 });
    expect(candidates.every(({ id }) => id.startsWith("short"))).toBe(true);
    expect(queries).toBe(1);
    const near = await nearest(scan, { minSimilarity: 0.99999999 });
    expect(near.candidates.map(({ id }) => id)).toEqual(["book"]);
    expect(queries).toBe(1);
  });
});
