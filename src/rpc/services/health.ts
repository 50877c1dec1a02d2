import { once, setMaxListeners } from "node:events";
import { Code, ConnectError, type ConnectRouter, type ServiceImpl } from "@connectrpc/connect";
import {
  Health as HealthService,
  HealthCheckResponse_ServingStatus as ServingStatus,
} from "../../generated/grpc/health/v1/health_pb.ts";
import { ServiceError } from "../../memory/model/errors.ts";
import { MAX_PUBLIC_MESSAGE_BYTES } from "../methods.ts";

export type ServiceState = "serving" | "not_serving";

/** State of the services, as grpc.health.v1 reports it. */
export interface Health {
  /** Registers grpc.health.v1.Health. */
  readonly routes: (router: ConnectRouter) => void;
  /** Sets the state of one service and notifies its watchers. Has no effect after `shutdown`. */
  set(service: string, state: ServiceState): void;
  /** Sets every service to not serving for good, notifies the watchers and ends their streams. Idempotent. */
  shutdown(): void;
}

/**
 * Creates the health service. Every service starts as not serving; `""` stands for the server as a whole.
 *
 * @param options.services full names that can be asked for, `""` included if wanted.
 */
export function createHealth(options: { readonly services: readonly string[] }): Health {
  const states = new Map<string, ServiceState>(options.services.map((service) => [service, "not_serving"]));
  const changes = new EventTarget();
  // Each watcher adds a listener, so a large number of listeners does not mean a leak.
  setMaxListeners(0, changes);
  let stopped = false;

  const statusOf = (service: string): ServingStatus => {
    const state = states.get(service);
    if (state === undefined) return ServingStatus.SERVICE_UNKNOWN;
    return state === "serving" ? ServingStatus.SERVING : ServingStatus.NOT_SERVING;
  };

  // Each watcher compares with what it sent last, so a slow one skips to the latest state.
  async function* watch(service: string, signal: AbortSignal) {
    let sent: ServingStatus | undefined;
    while (true) {
      signal.throwIfAborted();
      const status = statusOf(service);
      if (status !== sent) {
        sent = status;
        yield { status };
      } else if (stopped) {
        return;
      } else {
        // Its own rejection would hide why the call ended: the loop throws the signal's reason.
        await once(changes, "change", { signal }).catch(() => undefined);
      }
    }
  }

  return {
    routes: (router) => {
      const implementation: ServiceImpl<typeof HealthService> = {
        check(request) {
          const status = statusOf(request.service);
          if (status === ServingStatus.SERVICE_UNKNOWN) {
            throw new ConnectError(`unknown service "${request.service}"`, Code.NotFound);
          }
          return { status };
        },
        list() {
          return {
            statuses: Object.fromEntries(
              [...states.keys()].map((name) => [name, { status: statusOf(name) }]),
            ),
          };
        },
        watch: (request, context) => watch(request.service, context.signal),
      };
      router.service(HealthService, implementation, { readMaxBytes: MAX_PUBLIC_MESSAGE_BYTES });
    },
    set(service, state) {
      if (!states.has(service)) throw new ServiceError("INTERNAL", `unknown health service "${service}"`);
      if (stopped || states.get(service) === state) return;
      states.set(service, state);
      changes.dispatchEvent(new Event("change"));
    },
    shutdown() {
      if (stopped) return;
      stopped = true;
      for (const service of states.keys()) states.set(service, "not_serving");
      changes.dispatchEvent(new Event("change"));
    },
  };
}
