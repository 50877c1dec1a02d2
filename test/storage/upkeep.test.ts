import { afterEach, expect, test } from "vitest";
import type { Database } from "../../src/storage/database/database.ts";
import { createPostgresMemoryRepository } from "../../src/storage/postgres/memory-repository.ts";
import { analyseGrown } from "../../src/storage/postgres/upkeep.ts";
import { databaseEngines } from "../support/databases.ts";

let database: Database | undefined;

afterEach(async () => {
  await database?.close();
  database = undefined;
});

for (const { name, open } of databaseEngines()) {
  test(`tables that have grown are analysed once, small ones never, on ${name}`, async () => {
    database = await open();
    await createPostgresMemoryRepository(database).createDomain("large", 3);
    await createPostgresMemoryRepository(database).createDomain("small", 3);
    const fill = (domain: string, rows: number) =>
      database?.query(
        {
          text: `insert into ${domain}_memories (id, content, metadata)
            select gen_random_uuid()::text, repeat('word ', 100), '{}' from generate_series(1, $1::integer)`,
        },
        [rows],
      );
    await fill("large", 1_500);
    await fill("small", 10);

    expect(await analyseGrown(database)).toEqual(['"large_memories"']);
    expect(await analyseGrown(database)).toEqual([]);
    await fill("large", 1_500);
    expect(await analyseGrown(database)).toEqual(['"large_memories"']);
  });
}
