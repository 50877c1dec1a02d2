import type { DescService } from "@bufbuild/protobuf";
import type { Embedder } from "../memory/model/embedder.ts";
import type { Health } from "../rpc/services/health.ts";
import type { ReadinessReport } from "../server/probe-handler.ts";
import type { Database } from "../storage/database/database.ts";
import { startBackgroundLoop } from "../util/background-loop.ts";
import type { Logger } from "../util/logger.ts";

/** Pause between checks of the database and the embedder. */
const CHECK_MS = 2_000;
const PING_TIMEOUT_MS = 2_000;

/** The state of the database according to a ping. */
type DatabaseState =
  | { readonly kind: "healthy" | "read-only" }
  | { readonly kind: "unavailable"; readonly failure: Error };

const DETAILS: Readonly<Record<DatabaseState["kind"], string>> = {
  healthy: "available",
  "read-only": "the database is read-only",
  unavailable: "the database is unavailable",
};

export interface HealthMonitor {
  /**
   * Returns the answer to `/readyz`, for which it pings the database. A read-only database still answers searches, and
   * without the embedder full-text search works, so the server is ready in both cases. The report includes both.
   */
  readiness(): Promise<ReadinessReport>;
  close(): Promise<void>;
}

/**
 * Keeps grpc.health.v1 up to date: the server and its services follow the database, `embedder` follows the embedder.
 */
export function startHealthMonitor(dependencies: {
  readonly database: Pick<Database, "ping">;
  readonly embedder: Embedder;
  readonly health: Health;
  readonly services: readonly DescService[];
  readonly logger: Logger;
}): HealthMonitor {
  const { database, embedder, health, logger } = dependencies;
  const followers = ["", ...dependencies.services.map((service) => service.typeName)];
  let before: DatabaseState["kind"] = "healthy";
  /** Concurrent readiness requests share one ping, since any client may send many. */
  let pinging: Promise<DatabaseState> | undefined;

  const loop = startBackgroundLoop({
    async run() {
      const state = await ping();
      const status = state.kind === "unavailable" ? "not_serving" : "serving";
      for (const service of followers) health.set(service, status);
      health.set("embedder", embedder.status().available ? "serving" : "not_serving");
      if (state.kind !== before) logChange(state);
      before = state.kind;
    },
    onError: (error) => logger.error({ err: error }, "the health check failed unexpectedly"),
    pauseMs: () => CHECK_MS,
  });

  function logChange(state: DatabaseState): void {
    if (state.kind === "healthy") logger.info({}, "the database is available and writable again");
    else if (state.kind === "unavailable") logger.error({ err: state.failure }, DETAILS[state.kind]);
    else logger.error({}, DETAILS[state.kind]);
  }

  async function ping(): Promise<DatabaseState> {
    try {
      const { writable } = await database.ping(PING_TIMEOUT_MS);
      return { kind: writable ? "healthy" : "read-only" };
    } catch (error) {
      const cause = error instanceof Error ? (error.cause ?? error) : error;
      return { kind: "unavailable", failure: cause instanceof Error ? cause : new Error(String(cause)) };
    }
  }

  return {
    async readiness() {
      pinging ??= ping().finally(() => {
        pinging = undefined;
      });
      const { kind } = await pinging;
      const { available, reason } = embedder.status();
      return {
        ready: kind !== "unavailable",
        checks: {
          database: { ok: kind === "healthy", detail: DETAILS[kind] },
          embedder: { ok: available, detail: reason },
        },
      };
    },
    close: () => loop.close(),
  };
}
