import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import type { Repository } from "../../../src/memory/model/repository.ts";
import { startExpirySweeper } from "../../../src/memory/write/expiry-sweeper.ts";
import type { Database } from "../../../src/storage/database/database.ts";
import { createPostgresRepository } from "../../../src/storage/postgres/create-repository.ts";
import type { BackgroundLoop } from "../../../src/util/background-loop.ts";
import { newDomainName } from "../../support/drafts.ts";
import { databaseEngines } from "../../support/postgres/databases.ts";
import { requireDeclaredWrites } from "../../support/postgres/require-declared-writes.ts";
import { silentLogger } from "../../support/silent-logger.ts";

const HOUR_MS = 3_600_000;

describe.each(databaseEngines())("expired memories on $name", ({ open, engine }) => {
  let database: Database;
  let repository: Repository;
  let domain: string;

  beforeAll(async () => {
    database = await open({ poolSize: 8 });
    const all = createPostgresRepository(requireDeclaredWrites(database));
    // Ignores domains of other tests.
    repository = {
      ...all,
      listDomains: async () => (await all.listDomains()).filter(({ name }) => name === domain),
    };
  });
  afterAll(() => database.close());
  beforeEach(async () => {
    domain = newDomainName();
    await repository.createDomain(domain, 3);
  });

  /** So many that expired a second ago, and three that stay. */
  const insertExpired = async (count: number) => {
    await database.query(
      {
        text: `insert into "${domain}_memories" (id, content, metadata, expires_at)
          select 'gone' || n, 'x', '{}', now() - interval '1 second' from generate_series(1, $1::integer) as n
          union all values ('endless', 'x', '{}'::jsonb, null::timestamptz),
            ('later', 'x', '{}', now() + interval '1 hour'), ('last', 'x', '{}', 'infinity')`,
      },
      [count],
    );
    await database.query({
      text: `insert into "${domain}_chunks" (memory_id, chunk_index, start_offset, end_offset, embedding, embedding_version)
        values ('gone1', 1, 0, 1, '[1,0,0]', 1)`,
    });
  };
  const countRows = async (table = "memories") =>
    (await database.query({ text: `select from "${domain}_${table}"` })).length;
  /** Sweepers that have removed so many between them, then closed. */
  const sweep = async (count: number, sweepers = 1, through = repository) => {
    const { promise: removed, resolve } = Promise.withResolvers<void>();
    let total = 0;
    const started: BackgroundLoop[] = Array.from({ length: sweepers }, () =>
      startExpirySweeper({
        repository: through,
        logger: silentLogger,
        intervalMs: HOUR_MS,
        onDeleted: (memories) => {
          total += memories;
          if (total >= count) resolve();
        },
      }),
    );
    await removed;
    await Promise.all(started.map((sweeper) => sweeper.close()));
    return total;
  };

  test("are deleted in steps, with their chunks, and no others", async () => {
    await insertExpired(1_201);
    const steps: number[] = [];
    const counted = {
      ...repository,
      async sweepExpired(...args: Parameters<Repository["sweepExpired"]>) {
        const step = await repository.sweepExpired(...args);
        steps.push(step);
        return step;
      },
    };
    expect(await sweep(1_201, 1, counted)).toBe(1_201);
    expect(steps).toEqual([500, 500, 201]);
    expect(await countRows()).toBe(3);
    expect(await countRows("chunks")).toBe(0);
  });

  test("are deleted once by several sweepers", async () => {
    await insertExpired(3_000);
    expect(await sweep(3_000, 3)).toBe(3_000);
    expect(await countRows()).toBe(3);
  });

  test("are skipped while they are locked, without waiting", async () => {
    if (engine === "embedded") return;
    await insertExpired(10);
    await database.transaction(async (transaction) => {
      await transaction.query({
        text: `select from "${domain}_memories" where id in ('gone3', 'gone7') for update`,
      });
      expect(await repository.sweepExpired(domain, 100)).toBe(8);
    });
    expect(await repository.sweepExpired(domain, 100)).toBe(2);
  });

  test("are found by the index on expiry", async () => {
    await insertExpired(5);
    await database.execute("set enable_seqscan = off");
    const plan = await database.query<{ "QUERY PLAN": string }>({
      text: `explain select id from "${domain}_memories" where expires_at <= now() order by expires_at limit 500`,
    });
    await database.execute("reset enable_seqscan");
    expect(plan.map((row) => row["QUERY PLAN"]).join("\n")).toContain(`${domain}_memories_expires_idx`);
  });

  test("do not stop the sweep if their domain is deleted in the meantime", async () => {
    await insertExpired(5);
    const ghost = {
      ...repository,
      listDomains: async () => {
        const domains = await repository.listDomains();
        const [first] = domains;
        return first === undefined ? [] : [{ ...first, name: "a-ghost" }, ...domains];
      },
    };
    expect(await sweep(5, 1, ghost)).toBeGreaterThanOrEqual(5);
    expect(await countRows()).toBe(3);
  });

  test("remain if the server stops during a step", async () => {
    const { promise: asked, resolve: onAsked } = Promise.withResolvers<void>();
    const waiting = {
      ...repository,
      sweepExpired: (_domain: string, _limit: number, signal?: AbortSignal) =>
        new Promise<number>((_resolve, reject) => {
          signal?.addEventListener("abort", () => reject(signal.reason), { once: true });
          onAsked();
        }),
    };
    const warnings: unknown[] = [];
    const logger = { ...silentLogger, warn: (...args: unknown[]) => void warnings.push(args) };
    const sweeper = startExpirySweeper({ repository: waiting, logger, intervalMs: HOUR_MS });
    await asked;
    await sweeper.close();
    expect(warnings).toEqual([]);
  });

  test("are deleted by a retry after an error of the database", async () => {
    await insertExpired(5);
    let failures = 2;
    const failing = {
      ...repository,
      async listDomains() {
        if (failures-- > 0) throw new Error("away");
        return await repository.listDomains();
      },
    };
    const { promise: removed, resolve } = Promise.withResolvers<void>();
    const sweeper = startExpirySweeper({
      repository: failing,
      logger: silentLogger,
      intervalMs: 1,
      onDeleted: () => resolve(),
    });
    await removed;
    await sweeper.close();
    expect(await countRows()).toBe(3);
  });
});
