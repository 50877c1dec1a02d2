import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import type { Filter } from "../../../src/memory/model/filter.ts";
import type { Repository } from "../../../src/memory/model/repository.ts";
import type { DeleteMatchingCommand } from "../../../src/memory/write/delete-matching.ts";
import type { Database } from "../../../src/storage/database/database.ts";
import { draft, embedding } from "../../support/drafts.ts";
import { createUseCases, type UseCases } from "../../support/in-process/use-cases.ts";
import { databaseEngines } from "../../support/postgres/databases.ts";

const old: Filter = { kind: "tags_any", tags: ["old"] };

describe.each(databaseEngines())("DeleteMatching on $name", ({ open }) => {
  let database: Database;
  let useCases: UseCases;

  beforeAll(async () => {
    database = await open({ poolSize: 8 });
  });
  afterAll(() => database.close());

  const start = async (wrap?: (repository: Repository) => Repository) => {
    useCases = createUseCases(database, wrap === undefined ? {} : { wrap });
    await useCases.repository.createDomain(useCases.domain, 3);
  };
  beforeEach(() => start());

  const deleteMatching = (fields: Partial<DeleteMatchingCommand> = {}, signal?: AbortSignal) =>
    useCases.memories.deleteMatching(
      { domain: useCases.domain, filter: old, dryRun: false, ...fields },
      { signal: signal ?? new AbortController().signal, remainingMs: undefined },
    );
  /** Every second one is old. */
  const insertMany = (count: number) =>
    database.query({
      text: `insert into "${useCases.domain}_memories" (id, content, metadata)
        select 'm' || i, 'x', case when i % 2 = 0 then '{"tags":["old"]}' else '{}' end::jsonb
        from generate_series(1, ${count}) as i`,
    });
  const idsLeft = async () => {
    const rows = await database.query<{ id: string }>({
      text: `select id from "${useCases.domain}_memories"`,
    });
    return rows.map(({ id }) => id).sort();
  };

  test("deletes matching memories with their chunks, in any number of steps", async () => {
    await insertMany(2_400);
    const { repository, domain } = useCases;
    const version = await repository.registerEmbeddingVersion(
      { model: "m", digest: "", dimensions: 3, profile: "p/1" },
      1,
    );
    await repository.insert(
      domain,
      draft({ id: "long", tags: ["old"], embedding: embedding(version, 0, 1, 2) }),
    );
    expect(await deleteMatching()).toEqual({ matched: 1_201n, deleted: 1_201n });
    expect(await idsLeft()).toHaveLength(1_200);
    expect(await database.query({ text: `select from "${domain}_chunks"` })).toEqual([]);
    expect(await deleteMatching()).toEqual({ matched: 0n, deleted: 0n });
  });

  test("only counts matches in a dry run", async () => {
    await insertMany(10);
    expect(await deleteMatching({ dryRun: true })).toEqual({ matched: 5n, deleted: 0n });
    expect(await idsLeft()).toHaveLength(10);
  });

  test("leaves expired memories to the sweeper", async () => {
    await insertMany(4);
    await database.query({
      text: `update "${useCases.domain}_memories" set expires_at = now() where id = 'm2'`,
    });
    expect(await deleteMatching({ dryRun: true })).toEqual({ matched: 1n, deleted: 0n });
    expect(await deleteMatching()).toEqual({ matched: 1n, deleted: 1n });
    expect(await idsLeft()).toEqual(["m1", "m2", "m3"]);
  });

  test("stops between two steps when the caller leaves; another call deletes the rest", async () => {
    const leaving = new AbortController();
    let steps = 0;
    await start((repository) => ({
      ...repository,
      async deleteMatching(...args) {
        const step = await repository.deleteMatching(...args);
        if (++steps === 2) leaving.abort();
        return step;
      },
    }));
    await insertMany(4_000);
    await expect(deleteMatching({}, leaving.signal)).rejects.toThrow(/abort/);
    expect(steps).toBe(2);
    expect(await idsLeft()).toHaveLength(3_000);
    expect(await deleteMatching()).toEqual({ matched: 1_000n, deleted: 1_000n });
  });

  test("deletes each memory once when calls run concurrently", async () => {
    await insertMany(2_000);
    const answers = await Promise.all(Array.from({ length: 4 }, () => deleteMatching()));
    expect(answers.reduce((sum, { deleted }) => sum + deleted, 0n)).toBe(1_000n);
    expect(await idsLeft()).toHaveLength(1_000);
  });

  test("returns NotFound for a domain that does not exist", async () => {
    for (const dryRun of [true, false]) {
      await expect(deleteMatching({ domain: "missing", dryRun })).rejects.toMatchObject({
        reason: "DOMAIN_NOT_FOUND",
      });
    }
  });
});

// Waiting for a lock requires several connections.
describe.each(databaseEngines().filter(({ engine }) => engine === "postgres"))(
  "DeleteMatching beside a change on $name",
  ({ open }) => {
    test("keeps a memory that stops matching before it is locked", async () => {
      const database = await open({ poolSize: 3 });
      try {
        const useCases = createUseCases(database);
        const { domain } = useCases;
        await useCases.store({ id: "kept", tags: ["old"] });
        await useCases.store({ id: "lost", tags: ["old"] });
        const signal = new AbortController().signal;
        let deletion: Promise<unknown> | undefined;
        await database.transaction(async (transaction) => {
          await transaction.query({
            text: `update "${domain}_memories" set metadata = '{}' where id = 'kept'`,
          });
          deletion = useCases.memories.deleteMatching(
            { domain, filter: old, dryRun: false },
            { signal, remainingMs: undefined },
          );
          await expect
            .poll(
              async () =>
                await database.query({
                  text: "select from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()",
                }),
            )
            .toHaveLength(1);
        });
        expect(await deletion).toEqual({ matched: 2n, deleted: 1n });
        expect((await useCases.read("kept"))?.tags).toEqual([]);
        expect(await useCases.read("lost")).toBeUndefined();
      } finally {
        await database.close();
      }
    });
  },
);
