import { expect, test } from "vitest";
import { startHealthMonitor } from "../../src/app/health-monitor.ts";
import type { ServiceState } from "../../src/rpc/services/health.ts";
import type { DatabaseState } from "../../src/storage/database/database.ts";
import { databaseUnavailable } from "../../src/storage/database/errors.ts";
import { createScriptedEmbedder } from "../support/in-process/scripted-embedder.ts";
import { silentLogger } from "../support/silent-logger.ts";

const unavailable = () => Promise.reject(databaseUnavailable(new Error("connection refused")));
const well = async () => ({ writable: true });
const readOnly = async () => ({ writable: false });

async function watch(ping: () => Promise<DatabaseState>) {
  const states = new Map<string, ServiceState>();
  const logged: string[] = [];
  const looked = Promise.withResolvers<void>();
  const embedder = createScriptedEmbedder();
  embedder.leave();
  const log = (_fields: unknown, message?: string) => void logged.push(message ?? "");
  const health = startHealthMonitor({
    database: { ping },
    embedder,
    services: [],
    health: {
      routes: () => {},
      shutdown: () => {},
      set(service, state) {
        states.set(service, state);
        if (service === "embedder") looked.resolve();
      },
    },
    logger: { debug: log, info: log, warn: log, error: log },
  });
  await looked.promise;
  const { ready, checks } = await health.readiness();
  await health.close();
  return { states: Object.fromEntries(states), ready, database: checks.database, logged };
}

test.each([
  ["answers", well, "serving", true, true, []],
  ["is read-only", readOnly, "serving", true, false, ["the database is read-only"]],
  ["is unavailable", unavailable, "not_serving", false, false, ["the database is unavailable"]],
] as const)(
  "reports what callers can expect when the database %s",
  async (_, ping, state, ready, ok, logged) => {
    expect(await watch(ping)).toEqual({
      states: { "": state, embedder: "not_serving" },
      ready,
      database: { ok, detail: expect.any(String) },
      logged,
    });
  },
);

test("concurrent readiness requests share one ping of the database", async () => {
  let asked = 0;
  const ping = Promise.withResolvers<DatabaseState>();
  const health = startHealthMonitor({
    database: {
      ping() {
        asked++;
        return ping.promise;
      },
    },
    embedder: createScriptedEmbedder(),
    services: [],
    health: { routes: () => {}, shutdown: () => {}, set: () => {} },
    logger: silentLogger,
  });
  const reports = Array.from({ length: 100 }, () => health.readiness());
  ping.resolve({ writable: true });
  expect((await Promise.all(reports)).every(({ ready }) => ready)).toBe(true);
  // In addition to its own check.
  expect(asked).toBe(2);
  await health.readiness();
  expect(asked).toBe(3);
  await health.close();
});
