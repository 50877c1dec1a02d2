import { readConfig } from "../../app/config.ts";
import { abortOnSignal } from "../../cli/abort-on-signal.ts";
import { domainMapFrom } from "../../cli/domain-map.ts";
import { UsageError } from "../../cli/usage-error.ts";
import { StartupError } from "../../util/startup-error.ts";
import { adoptByCopy } from "./adopt-by-copy.ts";
import { adoptInPlace } from "./adopt-in-place.ts";
import type { AdoptCommandOptions } from "./adopt-options.ts";

/**
 * Shows the plan for the tables of the old PostgreSQL server, and carries it out with `yes`. Returns the exit code: 1
 * if the plan is not possible or a memory was rejected.
 *
 * @throws StartupError, UsageError
 */
export async function adopt(options: AdoptCommandOptions): Promise<number> {
  const config = readConfig(process.env);
  const map = domainMapFrom(options.map ?? []);
  assertValid(options);
  if (options.from === undefined && config.postgres === undefined) {
    throw new UsageError(
      "adopt requires PostgreSQL: set DATABASE_URL to the database of the tables, or copy them with --from URL",
    );
  }
  const interrupted = abortOnSignal();
  try {
    const run = options.from === undefined ? adoptInPlace : adoptByCopy;
    return await run(config, { ...options, map, signal: interrupted.signal });
  } catch (error) {
    throw interrupted.signal.aborted ? new StartupError("interrupted; run adopt again to resume") : error;
  } finally {
    interrupted.stop();
  }
}

/** @throws UsageError */
function assertValid(options: AdoptCommandOptions): void {
  if (options.from !== undefined && options.normalise) {
    throw new UsageError("--normalise cannot be combined with --from, which re-embeds every memory");
  }
  if (options.despitePrefixes && !options.normalise) {
    throw new UsageError("--despite-prefixes requires --normalise");
  }
  if (options.onConflict !== undefined && options.from === undefined) {
    throw new UsageError("--on-conflict requires --from");
  }
  if (options.server !== undefined && options.from === undefined) {
    throw new UsageError("--server requires --from");
  }
}
