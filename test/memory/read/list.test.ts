import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import type { Memory } from "../../../src/memory/model/memory.ts";
import type { ListOrder } from "../../../src/memory/model/memory-store.ts";
import type { ListCommand } from "../../../src/memory/read/list.ts";
import type { Database } from "../../../src/storage/database/database.ts";
import { createPostgresRepository } from "../../../src/storage/postgres/create-repository.ts";
import { draft, microsecondsFromNow } from "../../support/drafts.ts";
import { createUseCases, type UseCases } from "../../support/in-process/use-cases.ts";
import { databaseEngines } from "../../support/postgres/databases.ts";

const orders: readonly ListOrder[] = [
  { by: "create_time", descending: true },
  { by: "create_time", descending: false },
  { by: "update_time", descending: true },
  { by: "update_time", descending: false },
];
const nameOf = ({ by, descending }: ListOrder) => `by ${by}${descending ? ", last first" : ""}`;
const named = orders.map((order) => [nameOf(order), order] as const);
const invalid = { reason: "INVALID_PAGE_TOKEN", violations: [{ field: "page_token" }] };

describe.each(databaseEngines())("List on $name", ({ open }) => {
  let database: Database;
  let useCases: UseCases;

  beforeAll(async () => {
    database = await open({ poolSize: 8 });
  });
  afterAll(() => database.close());
  beforeEach(async () => {
    useCases = createUseCases(database);
    await useCases.repository.createDomain(useCases.domain, 3);
  });

  /** Turns pages to the end. */
  const listAll = async (fields: Partial<ListCommand>, onPage?: () => Promise<unknown>) => {
    const listed: Memory[] = [];
    let pageToken = "";
    let pages = 0;
    do {
      const page = await useCases.list({ ...fields, pageToken });
      expect(page.memories.length).toBeLessThanOrEqual(fields.pageSize ?? 50);
      listed.push(...page.memories.map(({ memory }) => memory));
      pageToken = page.nextPageToken;
      pages++;
      await onPage?.();
    } while (pageToken !== "");
    return { listed, pages };
  };
  const idsOf = async (fields: Partial<ListCommand>) => (await listAll(fields)).listed.map(({ id }) => id);
  /** Memories `prefix0`, `prefix1`, ... by one statement, so many microseconds apart. */
  const insertMany = async (count: number, apart: number, prefix = "m") => {
    await database.query(
      {
        text: `insert into "${useCases.domain}_memories" (id, content, metadata, created_at, updated_at)
          select $2 || n, 'c' || n, jsonb_build_object('n', n), memory_time($3 + n * $4::bigint),
            memory_time($3 + n * $4::bigint)
          from generate_series(0, $1::integer - 1) as n`,
      },
      [count, prefix, microsecondsFromNow(-3_600), apart],
    );
    return Array.from({ length: count }, (_, n) => `${prefix}${n}`);
  };

  test("returns an empty page for an empty domain, and NotFound for a missing one", async () => {
    expect(await useCases.list()).toEqual({ memories: [], nextPageToken: "" });
    await expect(useCases.list({ domain: "nowhere" })).rejects.toMatchObject({ reason: "DOMAIN_NOT_FOUND" });
    expect(await useCases.repository.findDomain("nowhere")).toBeUndefined();
  });

  test("returns memories as they are stored", async () => {
    const { memory } = await useCases.store({ id: "m", tags: ["a"], metadata: { k: 1 } });
    const { memories } = await useCases.list();
    expect(memories).toMatchObject([{ memory, preview: "" }]);
  });

  test("returns the beginning of contents if they are omitted", async () => {
    const content = "👍🏽".repeat(200);
    const { memory } = await useCases.store({ content });
    const { memories } = await useCases.list({ content: false });
    const preview = [...content].slice(0, 300).join("");
    expect(memories).toMatchObject([{ memory: { ...memory, content: "" }, preview }]);
  });

  test.each(named)("%s lists 1,000 memories 130 microseconds apart", async (_name, order) => {
    const ids = await insertMany(1_000, 130);
    if (order.descending) ids.reverse();
    expect(await idsOf({ order, pageSize: 1_000 })).toEqual(ids);
    expect(await idsOf({ order, pageSize: 7 })).toEqual(ids);
  });

  test.each(named)("%s lists memories of the same microsecond by their ids", async (_name, order) => {
    await insertMany(50, 0);
    const everything = await idsOf({ order, pageSize: 50 });
    expect(new Set(everything).size).toBe(50);
    expect(await idsOf({ order, pageSize: 1 })).toEqual(everything);
    expect(await idsOf({ order: { ...order, descending: !order.descending }, pageSize: 3 })).toEqual(
      everything.toReversed(),
    );
  });

  test("ends without a token when the last page is full", async () => {
    await insertMany(6, 1);
    expect((await listAll({ pageSize: 3 })).pages).toBe(2);
    expect((await listAll({ pageSize: 6 })).pages).toBe(1);
    expect((await listAll({ pageSize: 4 })).pages).toBe(2);
  });

  test.each(named)(
    "%s misses no memory that remains, while others are inserted and deleted",
    async (_name, order) => {
      const staying = new Set(await insertMany(2_000, 3, "stays"));
      await insertMany(2_000, 3, "goes");
      let round = 0;
      const disturb = async () => {
        round++;
        await Promise.all([
          useCases.repository.insert(useCases.domain, draft({ id: `new${round}` })),
          ...Array.from({ length: 8 }, (_, i) =>
            useCases.repository.delete(useCases.domain, `goes${(round * 8 + i * 251) % 2_000}`, undefined),
          ),
          // Between the others, as an import would.
          database.query(
            {
              text: `insert into "${useCases.domain}_memories" (id, content, metadata, created_at, updated_at)
              select 'between' || $1, 'c', '{}', created_at, updated_at
              from "${useCases.domain}_memories" where id = $2`,
            },
            [round, `stays${(round * 397) % 2_000}`],
          ),
        ]);
      };
      const { listed } = await listAll({ order, pageSize: 37, content: false }, disturb);
      const ids = listed.map(({ id }) => id);
      expect(new Set(ids).size).toBe(ids.length);
      expect(ids.filter((id) => staying.has(id))).toHaveLength(2_000);
      expect(round).toBeGreaterThan(50);
    },
  );

  test("by update_time, oldest first, lists memories again that change in the meantime", async () => {
    await insertMany(4, 1);
    const order: ListOrder = { by: "update_time", descending: false };
    const first = await useCases.list({ order, pageSize: 2 });
    expect(first.memories.map(({ memory }) => memory.id)).toEqual(["m0", "m1"]);
    await useCases.update("m0", { source: "new" });
    const rest = await useCases.list({ order, pageToken: first.nextPageToken });
    expect(rest.memories.map(({ memory }) => memory.id)).toEqual(["m2", "m3", "m0"]);
  });

  test("omits expired memories", async () => {
    await insertMany(4, 1);
    await database.execute(
      `update "${useCases.domain}_memories" set expires_at = now() where id in ('m1', 'm3')`,
    );
    expect(await idsOf({ pageSize: 1 })).toEqual(["m2", "m0"]);
  });

  test("lists the memories that pass the filter, over all pages", async () => {
    await insertMany(1_000, 1);
    const range = { gte: 100, lt: 400, gt: undefined, lte: undefined };
    const filter = { kind: "metadata", path: ["n"], test: { kind: "range", range } } as const;
    const expected = Array.from({ length: 300 }, (_, n) => `m${n + 100}`);
    expect(await idsOf({ filter, order: { by: "create_time", descending: false }, pageSize: 33 })).toEqual(
      expected,
    );
    expect(await idsOf({ filter, pageSize: 1_000 })).toEqual(expected.toReversed());
  });

  describe("of large memories", () => {
    const large = 1_000_000;
    const insertLarge = async (count: number, length: number, metadata = {}) => {
      for (let i = 0; i < count; i++) {
        await useCases.repository.insert(
          useCases.domain,
          draft({ id: `m${i}`, content: "x".repeat(length), metadata }),
        );
      }
    };

    test("ends pages early, and lists all memories", async () => {
      await insertLarge(10, large);
      const first = await useCases.list({ pageSize: 1_000 });
      expect(first.memories).toHaveLength(4);
      const { listed, pages } = await listAll({ pageSize: 1_000 });
      expect(listed.map(({ id }) => id)).toEqual(Array.from({ length: 10 }, (_, i) => `m${9 - i}`));
      expect(pages).toBe(3);
      expect((await useCases.list({ pageSize: 1_000, content: false })).memories).toHaveLength(10);
    });

    test("measures metadata in their encoded form", async () => {
      // Two bytes each as JSON, eleven and more as a message.
      await insertLarge(20, 1, { zeros: Array.from({ length: 30_000 }, () => 0) });
      const { memories } = await useCases.list({ pageSize: 1_000, content: false });
      expect(memories.length).toBeGreaterThan(5);
      expect(memories.length).toBeLessThan(14);
      expect((await listAll({ pageSize: 1_000 })).listed).toHaveLength(20);
    });

    test("rejects a memory that is larger than a message, and suggests another view", async () => {
      await insertLarge(1, 5_000_000);
      await expect(useCases.list()).rejects.toMatchObject({
        reason: "RESPONSE_TOO_LARGE",
        metadata: { field: "view" },
      });
      expect((await useCases.list({ content: false })).memories).toHaveLength(1);
    });
  });

  describe("a page token", () => {
    const filter = { kind: "sources", sources: [""] } as const;
    const firstToken = async (fields: Partial<ListCommand> = {}) => {
      const { nextPageToken } = await useCases.list({ pageSize: 2, ...fields });
      expect(nextPageToken).toMatch(/^[A-Za-z0-9_-]{20,200}$/);
      return nextPageToken;
    };

    beforeEach(async () => {
      await insertMany(5, 1);
    });

    test("is valid with any page size and view", async () => {
      const pageToken = await firstToken();
      const { memories } = await useCases.list({ pageToken, pageSize: 1_000, content: false });
      expect(memories.map(({ memory }) => memory.id)).toEqual(["m2", "m1", "m0"]);
      expect((await useCases.list({ pageToken, pageSize: 1 })).memories).toHaveLength(1);
    });

    test("is valid on another server of the same database, and more than once", async () => {
      const pageToken = await firstToken({ filter });
      const other = createUseCases(database);
      for (let i = 0; i < 2; i++) {
        const { memories } = await other.list({ domain: useCases.domain, filter, pageToken });
        expect(memories).toHaveLength(3);
      }
    });

    test("is rejected if any byte is altered", async () => {
      const token = await firstToken();
      for (let i = 0; i < token.length; i++) {
        const other = token[i] === "A" ? "B" : "A";
        const pageToken = token.slice(0, i) + other + token.slice(i + 1);
        await expect(useCases.list({ pageToken }), `at ${i}`).rejects.toMatchObject(invalid);
      }
    });

    test.each<readonly [string, (token: string) => string]>([
      ["is nonsense", () => "nonsense"],
      ["is blank", () => " "],
      ["has white space", (token) => `${token} `],
      ["has padding", (token) => `${token}=`],
      ["is cut", (token) => token.slice(0, -4)],
      ["is doubled", (token) => token + token],
      ["is empty but for its code", (token) => token.slice(0, 22)],
      ["is of the other base64 alphabet", () => "+/+/".repeat(10)],
      ["is no ASCII", () => "ключ"],
      ["is very long", () => "A".repeat(1_000_000)],
    ])("that %s is rejected", async (_name, alter) => {
      await expect(useCases.list({ pageToken: alter(await firstToken()) })).rejects.toMatchObject(invalid);
    });

    test.each<readonly [string, Partial<ListCommand>]>([
      ["another order", { order: { by: "update_time", descending: true } }],
      ["another direction", { order: { by: "create_time", descending: false } }],
      ["a filter", { filter }],
    ])("with %s is rejected", async (_name, fields) => {
      const pageToken = await firstToken();
      await expect(useCases.list({ ...fields, pageToken })).rejects.toMatchObject(invalid);
    });

    test("of a filter is rejected without the filter and with another one", async () => {
      const pageToken = await firstToken({ filter });
      await expect(useCases.list({ pageToken })).rejects.toMatchObject(invalid);
      const other = { kind: "sources", sources: ["s"] } as const;
      await expect(useCases.list({ pageToken, filter: other })).rejects.toMatchObject(invalid);
    });

    test("of another domain is rejected", async () => {
      const pageToken = await firstToken();
      const other = createUseCases(database);
      await other.store();
      await expect(other.list({ pageToken })).rejects.toMatchObject(invalid);
    });

    test("of a recreated domain is rejected, even while the old domain is cached", async () => {
      const pageToken = await firstToken();
      // Another server drops it: this one has it cached.
      const other = createPostgresRepository(database);
      await database.query({ text: "select drop_domain_memories_table($1)" }, [useCases.domain]);
      await expect(useCases.list({ pageToken })).rejects.toMatchObject({ reason: "DOMAIN_NOT_FOUND" });
      await other.createDomain(useCases.domain, 3);
      await insertMany(5, 1);
      await expect(useCases.list({ pageToken })).rejects.toMatchObject(invalid);
      expect((await useCases.list()).memories).toHaveLength(5);
    });

    test("of another installation is rejected", async () => {
      const pageToken = await firstToken();
      const other = createUseCases(database, {
        wrap: (repository) => ({ ...repository, pageTokenKey: async () => new Uint8Array(32) }),
      });
      await expect(other.list({ domain: useCases.domain, pageToken })).rejects.toMatchObject(invalid);
    });
  });

  test("the key of page tokens is the same for all, and made once if it is lost", async () => {
    const servers = Array.from({ length: 8 }, () => createPostgresRepository(database));
    const first = await servers[0]?.pageTokenKey();
    await database.query({ text: "delete from memory_secrets where name = 'page_token'" });
    const keys = await Promise.all(servers.slice(1).map((server) => server.pageTokenKey()));
    expect(new Set(keys.map((key) => Buffer.from(key).toString("hex"))).size).toBe(1);
    expect(keys[0]).toHaveLength(32);
    expect(keys[0]).not.toEqual(first);
  });
});
