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

// Vitest takes a file without tests for a mistake: a server that lacks the extension has none of these.
describe.each(engines.length > 0 ? engines : await rankedEngines())(
  "BM25 indexes on $name",
  ({ open, ranker }) => {
    let database: Database;
    let repository: Repository;

    beforeEach(async () => {
      // The extension cannot be dropped twice in one session.
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
    /** What a server answers that has not looked at this database before. */
    const searchAnew = (name: string) => search(name, createPostgresRepository(database));

    test("that are dropped while the server runs are done without, and made at its next start", async () => {
      expect(await search("first")).toMatchObject({ ranker, candidates: [{ id: "m" }] });
      await database.execute("drop index if exists first_memories_bm25_idx");
      expect(await search("first")).toMatchObject({ ranker: "bm25_sql", candidates: [{ id: "m" }] });
      expect(await search("second")).toMatchObject({ ranker, candidates: [{ id: "m" }] });
      await restart();
      expect(await searchAnew("first")).toMatchObject({ ranker, candidates: [{ id: "m" }] });
    });

    test("go with the extension, which the next start creates again", async () => {
      expect(await search("first")).toMatchObject({ ranker });
      await database.execute("drop extension if exists pg_textsearch cascade");
      expect(await search("first")).toMatchObject({ ranker: "bm25_sql", candidates: [{ id: "m" }] });
      expect(await repository.insert("first", draft({ id: "n", content: "apple" }))).toMatchObject({
        id: "n",
      });
      expect((await search("first")).candidates).toHaveLength(2);
      await restart();
      for (const name of ["first", "second"]) expect(await searchAnew(name)).toMatchObject({ ranker });
      expect((await searchAnew("first")).candidates).toHaveLength(2);
    });
  },
);
