import type { ServerProbe } from "../client/probe-server.ts";
import { type Check, ok, problem, warning } from "./check.ts";

/** Judges what was found where the server should be; undefined: its port is not known. */
export function checkServer(answer: ServerProbe | undefined): Check {
  const name = "server";
  switch (answer?.kind) {
    case undefined:
      return ok(name, "not asked, since MEMORY_PORT=0 takes any free port");
    case "absent":
      return ok(name, `none runs at ${answer.url}`);
    case "unrecognized":
      return problem(
        name,
        `what listens at ${answer.url} is no memory-service that can answer (${answer.reason})`,
        "stop it, or set MEMORY_PORT to a free port",
      );
    case "server": {
      const failing = Object.entries(answer.checks).filter(([, check]) => !check.ok);
      const details = failing.map(([part, { detail }]) => `${part}: ${detail}`).join("; ");
      if (!answer.ready) {
        return problem(
          name,
          `runs at ${answer.url} and is not ready: ${details}`,
          "see its log, and the checks here",
        );
      }
      if (failing.length === 0) return ok(name, `runs at ${answer.url} and is ready`);
      return warning(
        name,
        `runs at ${answer.url} and is ready, but ${details}`,
        "see its log, and the checks here",
      );
    }
  }
}
