import { failingChecks, type ServerProbe } from "../client/probe-server.ts";
import { type Check, ok, problem, warning } from "./check.ts";

/** Checks the result of probing the server; undefined if its port is not known. */
export function checkServer(probe: ServerProbe | undefined): Check {
  const name = "server";
  switch (probe?.kind) {
    case undefined:
      return ok(name, "not checked, because MEMORY_PORT=0 means any free port");
    case "absent":
      return ok(name, `no server is running at ${probe.url}`);
    case "unrecognized":
      return problem(
        name,
        `${probe.url} is not a memory-service that responds (${probe.reason})`,
        "stop the other program, or set MEMORY_PORT to a free port",
      );
    case "server": {
      const failing = failingChecks(probe);
      const details = failing.map(([part, { detail }]) => `${part}: ${detail}`).join("; ");
      if (!probe.ready) {
        return problem(
          name,
          `running at ${probe.url}, but not ready: ${details}`,
          "see the log of the server and the other checks",
        );
      }
      if (failing.length === 0) return ok(name, `running at ${probe.url} and ready`);
      return warning(
        name,
        `running at ${probe.url} and ready, but ${details}`,
        "see the log of the server and the other checks",
      );
    }
  }
}
