import { abortOnSignal } from "../../cli/abort-on-signal.ts";
import { createProgress } from "../../cli/output/progress.ts";
import { UsageError } from "../../cli/usage-error.ts";
import { DOMAIN_NAME } from "../../memory/model/limits.ts";
import { StartupError } from "../../util/startup-error.ts";
import { openLegacySource } from "../readers/open-legacy-source.ts";
import type { ImportLegacyOptions } from "./import-legacy-options.ts";
import { runImport } from "./run-import.ts";
import { runRollback } from "./run-rollback.ts";
import { runVerification } from "./run-verification.ts";

/**
 * Imports the data of the old server, verifies an import or rolls it back. Returns the exit code: 1 if a memory was not
 * imported, differs or was kept.
 *
 * @throws StartupError, UsageError
 */
export async function importLegacy(
  directory: string | undefined,
  options: ImportLegacyOptions,
): Promise<number> {
  assertValid(directory, options);
  const interrupted = abortOnSignal();
  const progress = createProgress();
  const call = { ...options, progress, signal: interrupted.signal };
  try {
    if (options.rollback !== undefined) return await runRollback(options.rollback, call);
    const source = await openLegacySource(directory ?? "", interrupted.signal);
    try {
      return await (options.verify ? runVerification : runImport)(source, call);
    } finally {
      await source.close();
    }
  } catch (error) {
    progress.clear();
    throw interrupted.signal.aborted
      ? new StartupError("interrupted; run the command again to resume")
      : error;
  } finally {
    progress.clear();
    interrupted.stop();
  }
}

/** @throws UsageError */
function assertValid(directory: string | undefined, options: ImportLegacyOptions): void {
  const modes = [
    options.dryRun && "--dry-run",
    options.verify && "--verify",
    options.rollback && "--rollback",
  ];
  const given = modes.filter((mode) => mode);
  if (given.length > 1) throw new UsageError(`${given.join(" and ")} cannot be combined; use one of them`);
  if (directory === undefined && options.rollback === undefined) {
    throw new UsageError(
      "import-legacy requires the data directory of the old server, which contains memory.db",
    );
  }
  if (options.domain !== undefined && !DOMAIN_NAME.test(options.domain)) {
    throw new UsageError(
      `--domain must be a lower-case letter followed by at most 39 of a-z, 0-9, _ and -, got "${options.domain}"`,
    );
  }
}
