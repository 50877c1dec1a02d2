import { setTimeout as sleep } from "node:timers/promises";
import type { DescService } from "@bufbuild/protobuf";
import type { Embedder } from "./embedding/embedder.ts";
import type { Logger } from "./logger.ts";
import type { Health } from "./rpc/health.ts";
import type { ReadinessReport } from "./rpc/http-handler.ts";
import type { Database } from "./storage/database/database.ts";

/** How often the database and the embedder are looked at. */
const CHECK_MS = 2_000;
const PING_TIMEOUT_MS = 2_000;

/** Keeps grpc.health.v1 true: the server and its services follow the database, `embedder` follows Ollama. */
export function watchHealth(dependencies: {
  readonly database: Database;
  readonly embedder: Embedder;
  readonly health: Health;
  readonly services: readonly DescService[];
  readonly logger: Logger;
}) {
  const { database, embedder, health, logger } = dependencies;
  const following = ["", ...dependencies.services.map((service) => service.typeName)];
  const stop = new AbortController();
  let serving: boolean | undefined;
  const done = run();

  async function run() {
    while (!stop.signal.aborted) {
      const failure = await ping();
      const reachable = failure === undefined;
      for (const service of following) health.set(service, reachable ? "serving" : "not_serving");
      health.set("embedder", embedder.status().available ? "serving" : "not_serving");
      if (serving !== undefined && serving !== reachable) {
        if (reachable) logger.info({}, "the database answers again");
        else logger.error({ err: failure }, "the database does not answer");
      }
      serving = reachable;
      await sleep(CHECK_MS, undefined, { signal: stop.signal }).catch(() => {});
    }
  }

  /** Undefined if the database answers, else why it does not. */
  async function ping(): Promise<Error | undefined> {
    try {
      await database.ping(PING_TIMEOUT_MS);
      return undefined;
    } catch (error) {
      const cause = error instanceof Error ? (error.cause ?? error) : error;
      return cause instanceof Error ? cause : new Error(String(cause));
    }
  }

  return {
    /** For `/readyz`: asks the database now. The embedder is told, and does not count: text search works without. */
    async readiness(): Promise<ReadinessReport> {
      const reachable = (await ping()) === undefined;
      const { available, reason } = embedder.status();
      return {
        ready: reachable,
        checks: {
          database: { ok: reachable, detail: reachable ? "answers" : "does not answer" },
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
