import { setTimeout as sleep } from "node:timers/promises";
import type { DescService } from "@bufbuild/protobuf";
import type { Embedder } from "../memory/model/embedder.ts";
import type { Health } from "../rpc/services/health.ts";
import type { ReadinessReport } from "../server/probe-handler.ts";
import type { Database } from "../storage/database/database.ts";
import type { Logger } from "../util/logger.ts";

/** How often the database and the embedder are looked at. */
const CHECK_MS = 2_000;
const PING_TIMEOUT_MS = 2_000;

/** What the database can do, as far as can be seen from outside. */
type Look = { readonly kind: "well" | "read-only" } | { readonly kind: "away"; readonly failure: Error };

const detailOf: Readonly<Record<Look["kind"], string>> = {
  well: "answers",
  "read-only": "the database answers and takes no changes",
  away: "the database does not answer",
};

/** Keeps grpc.health.v1 true: the server and its services follow the database, `embedder` follows Ollama. */
export function watchHealth(dependencies: {
  readonly database: Pick<Database, "ping">;
  readonly embedder: Embedder;
  readonly health: Health;
  readonly services: readonly DescService[];
  readonly logger: Logger;
}) {
  const { database, embedder, health, logger } = dependencies;
  const following = ["", ...dependencies.services.map((service) => service.typeName)];
  const stop = new AbortController();
  let before: Look | undefined;
  /** Anybody may ask, and as often as they like: the database is asked once for all that ask meanwhile. */
  let looking: Promise<Look> | undefined;
  const done = run();

  async function run() {
    while (!stop.signal.aborted) {
      const now = await look();
      for (const service of following) health.set(service, now.kind === "away" ? "not_serving" : "serving");
      health.set("embedder", embedder.status().available ? "serving" : "not_serving");
      tell(now);
      before = now;
      await sleep(CHECK_MS, undefined, { signal: stop.signal }).catch(() => {});
    }
  }

  function tell(now: Look): void {
    if (now.kind === (before?.kind ?? "well")) return;
    if (now.kind === "well") logger.info({}, "the database answers again and takes changes");
    else if (now.kind === "away") logger.error({ err: now.failure }, detailOf[now.kind]);
    else logger.error({}, detailOf[now.kind]);
  }

  async function look(): Promise<Look> {
    try {
      const { writable } = await database.ping(PING_TIMEOUT_MS);
      return { kind: writable ? "well" : "read-only" };
    } catch (error) {
      const cause = error instanceof Error ? (error.cause ?? error) : error;
      return { kind: "away", failure: cause instanceof Error ? cause : new Error(String(cause)) };
    }
  }

  return {
    /**
     * For `/readyz`: asks the database now. Ready is who can answer something: a database that takes no changes still
     * answers searches, and without the embedder they find by words. Both are told.
     */
    async readiness(): Promise<ReadinessReport> {
      looking ??= look().finally(() => {
        looking = undefined;
      });
      const { kind } = await looking;
      const { available, reason } = embedder.status();
      return {
        ready: kind !== "away",
        checks: {
          database: { ok: kind === "well", detail: detailOf[kind] },
          embedder: { ok: available, detail: reason },
        },
      };
    },

    async close(): Promise<void> {
      stop.abort();
      await done;
    },
  };
}
