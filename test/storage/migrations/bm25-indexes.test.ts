import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { Repository } from "../../../src/memory/model/repository.ts";
import { parseTextQuery } from "../../../src/memory/model/text-query.ts";
import type { Database } from "../../../src/storage/database/database.ts";
import { migrate, sqlDirectory } from "../../../src/storage/migrations/migrations.ts";
import { createPostgresRepository } from "../../../src/storage/postgres/create-repository.ts";
import { draft } from "../../support/drafts.ts";
import { rankedEngines } from "../../support/postgres/text-rankers.ts";
import { silentLogger } from "../../support/silent-logger.ts";

const engines = (await rankedEngines()).filter(({ ranker }) => ranker === "bm25_index");

// Vitest fails on a file without tests, so a server without the extension must not skip all of them here.
describe.each(engines.length > 0 ? engines : await rankedEngines())(
  "BM25 indexes on $name",
  ({ open, ranker }) => {
    let database: Database;
    let repository: Repository;

    beforeEach(async () => {
      // A session cannot drop the extension twice.
      database = await open({ fresh: true });
      repository = createPostgresRepository(database);
      for (const name of ["first", "second"]) {
        await repository.createDomain(name, 3);
        await repository.insert(name, draft({ id: "m", content: "apple" }));
      }
    });
    afterEach(() => database.close());

    const restart = () => migrate(database, { directory: sqlDirectory, logger: silentLogger });
    const search = async (name: string, searched = repository) =>
      await searched.searchText(name, { terms: parseTextQuery("apple"), depth: 5, minScore: undefined });
    /** Searches as a newly started server does. */
    const searchAfterStart = (name: string) => search(name, createPostgresRepository(database));

    test("may be dropped while the server runs, and are created at its next start", async () => {
      expect(await search("first")).toMatchObject({ ranker, candidates: [{ id: "m" }] });
      await database.execute("drop index if exists first_memories_bm25_idx");
      expect(await search("first")).toMatchObject({ ranker: "bm25_sql", candidates: [{ id: "m" }] });
      expect(await search("second")).toMatchObject({ ranker, candidates: [{ id: "m" }] });
      await restart();
      expect(await searchAfterStart("first")).toMatchObject({ ranker, candidates: [{ id: "m" }] });
    });

    test("disappear with the extension, and the next start recreates both", async () => {
      expect(await search("first")).toMatchObject({ ranker });
      await database.execute("drop extension if exists pg_textsearch cascade");
      expect(await search("first")).toMatchObject({ ranker: "bm25_sql", candidates: [{ id: "m" }] });
      expect(await repository.insert("first", draft({ id: "n", content: "apple" }))).toMatchObject({
        id: "n",
      });
      expect((await search("first")).candidates).toHaveLength(2);
      await restart();
      for (const name of ["first", "second"]) expect(await searchAfterStart(name)).toMatchObject({ ranker });
      expect((await searchAfterStart("first")).candidates).toHaveLength(2);
    });
  },
);
