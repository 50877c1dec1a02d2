import { parseArgs } from "node:util";
import { createList } from "../src/memory/read/list.ts";
import { createPageTokens } from "../src/memory/read/page-token.ts";
import type { Database } from "../src/storage/database/database.ts";
import { openEmbeddedDatabase } from "../src/storage/database/embedded/embedded-database.ts";
import { openPostgresDatabase } from "../src/storage/database/server/postgres-database.ts";
import { migrate, sqlDirectory } from "../src/storage/migrations/migrations.ts";
import { createPostgresRepository } from "../src/storage/postgres/create-repository.ts";

// Lists a domain page by page during inserts and deletes, and reports whether a memory that stayed was missed or listed
// twice. `--url` names an empty database; it defaults to the embedded engine.

const { values: options } = parseArgs({
  options: {
    memories: { type: "string", default: "100000" },
    "page-size": { type: "string", default: "500" },
    url: { type: "string" },
  },
});
const count = Number(options.memories);
const pageSize = Number(options["page-size"]);
const logger = { debug() {}, info() {}, warn() {}, error() {} };
const domain = "bench";

const database: Database =
  options.url === undefined
    ? await openEmbeddedDatabase({ logger })
    : await openPostgresDatabase({ connection: { connectionString: options.url }, poolSize: 6, logger });
await migrate(database, { directory: sqlDirectory, logger });
const repository = createPostgresRepository(database);
await repository.createDomain(domain, 768);
const list = createList({ repository, tokens: createPageTokens(() => repository.pageTokenKey()) });

/** Three in four stay, and the others are deleted during the listing; they are 130 microseconds apart. */
await database.query(
  {
    text: `insert into ${domain}_memories (id, content, metadata, created_at, updated_at)
      select case when n % 4 = 0 then 'goes' else 'stays' end || n, 'memory ' || n, '{}',
        timestamptz '2026-01-01' + n * interval '130 microseconds',
        timestamptz '2026-01-01' + n * interval '130 microseconds'
      from generate_series(1, $1::integer) as n`,
  },
  [count],
);
await database.execute(`analyze ${domain}_memories`);

for (const descending of [true, false]) {
  let running = true;
  let inserted = 0;
  let deleted = 0;
  const insert = async () => {
    while (running) {
      await database.query(
        {
          text: `insert into ${domain}_memories (id, content, metadata, created_at)
            values ('new' || gen_random_uuid(), 'new', '{}',
              timestamptz '2026-01-01' + random() * $1 * interval '130 microseconds')`,
        },
        [count],
      );
      inserted++;
    }
  };
  const remove = async () => {
    while (running) {
      const { kind } = await repository.delete(
        domain,
        `goes${4 * Math.ceil((Math.random() * count) / 4)}`,
        undefined,
      );
      if (kind === "deleted") deleted++;
      else await new Promise(setImmediate);
    }
  };
  const others = [insert(), insert(), remove(), remove()];

  const seen = new Set<string>();
  const latencies: number[] = [];
  let repeated = 0;
  let stayed = 0;
  let pageToken = "";
  do {
    const start = performance.now();
    const page = await list(
      {
        domain,
        filter: undefined,
        order: { by: "create_time", descending },
        pageSize,
        pageToken,
        content: true,
      },
      { signal: new AbortController().signal, remainingMs: undefined },
    );
    latencies.push(performance.now() - start);
    for (const { memory } of page.memories) {
      if (seen.has(memory.id)) repeated++;
      seen.add(memory.id);
      if (memory.id.startsWith("stays")) stayed++;
    }
    pageToken = page.nextPageToken;
  } while (pageToken !== "");
  running = false;
  await Promise.all(others);

  latencies.sort((a, b) => a - b);
  const at = (share: number) => latencies[Math.floor(share * (latencies.length - 1))]?.toFixed(1);
  console.log(
    `${database.engine}, ${descending ? "newest" : "oldest"} first: ${seen.size} listed in ${latencies.length} pages of`,
    `${pageSize}, ${inserted} inserted and ${deleted} deleted concurrently; stayed ${stayed} of`,
    `${count - Math.floor(count / 4)}, listed twice ${repeated}; a page p50 ${at(0.5)} ms, p99 ${at(0.99)} ms`,
  );
}
await database.close();
