import { expect, test } from "vitest";
import { openEmbeddedDatabase } from "../../src/storage/database/embedded/embedded-database.ts";
import { createDataDirectory } from "../support/postgres/data-directory.ts";
import { openGrpcClient, startServerProcess } from "../support/server/server-process.ts";
import { silentLogger } from "../support/silent-logger.ts";

const SLOW_SECONDS = 4;
const WITHIN_MS = 100;
/** Other tests on the machine may delay an answer, but never by as much as a blocked thread would. */
const LATE_SHARE = 0.05;

test("/livez answers within 100 ms while the embedded engine is busy for seconds", {
  timeout: 120_000,
}, async () => {
  await using data = await createDataDirectory();
  await makeSlowDomain(data.directory);
  await using server = await startServerProcess({ env: data.env });
  using connection = openGrpcClient(server.url);

  const started = performance.now();
  let busy = true;
  const storing = connection.client.store({ content: "takes its time", domain: "slow" }).finally(() => {
    busy = false;
  });
  const answers: number[] = [];
  while (busy) {
    const asked = performance.now();
    expect((await fetch(`${server.url}/livez`)).status).toBe(200);
    answers.push(performance.now() - asked);
  }
  await storing;
  expect(performance.now() - started).toBeGreaterThan(SLOW_SECONDS * 1_000);

  const late = answers.filter((ms) => ms > WITHIN_MS);
  console.log(`${answers.length} answers, the slowest after ${Math.max(...answers).toFixed(1)} ms`);
  expect(answers.length).toBeGreaterThan(20);
  expect(late.length / answers.length, `late: ${late}`).toBeLessThan(LATE_SHARE);
  expect(Math.max(...answers)).toBeLessThan((SLOW_SECONDS * 1_000) / 4);
});

/** Creates a domain in which every insert computes for seconds, as building a large index does. */
async function makeSlowDomain(directory: string): Promise<void> {
  const database = await openEmbeddedDatabase({ directory, logger: silentLogger });
  await database.execute(`
    select create_domain_memories_table('slow');
    create function compute() returns trigger language plpgsql as $$
      declare
        finish constant timestamptz := clock_timestamp() + interval '${SLOW_SECONDS} s';
      begin
        while clock_timestamp() < finish loop end loop;
        return new;
      end $$;
    create trigger compute before insert on slow_memories for each row execute function compute();`);
  await database.close();
}
