import { formatCount, formatMemoryCount } from "../../cli/output/format-count.ts";
import { UsageError } from "../../cli/usage-error.ts";
import { type Rollback, rollbackRun } from "../import/rollback-run.ts";
import { findRunDirectory } from "../import/run-directory.ts";
import type { TargetDomain } from "../import/target-domain.ts";
import type { ImportLegacyCall } from "./import-legacy-options.ts";
import { withTargetDomain } from "./open-target-domain.ts";

/** Rolls back an import run. Returns the exit code. */
export async function runRollback(run: string, call: ImportLegacyCall): Promise<number> {
  const { json, progress, signal } = call;
  const directory = await findRunDirectory(call.report, run);
  const domain = call.domain ?? directory?.state.domain;
  return await withTargetDomain({ ...call, domain }, async (target) => {
    if (directory !== undefined && directory.state.target !== target.name) {
      throw new UsageError(
        `import ${run} went into ${directory.state.target}, but the target is ${target.name}; select it with --server or the settings`,
      );
    }
    if (directory === undefined) {
      console.error(
        `memory-service: cannot find the directory of import ${run}, so replaced memories cannot be restored; name it with --report`,
      );
    }
    const result = await rollbackRun(run, target, directory, {
      onKept: async (id, reason) => {
        progress.clear();
        console.error(`memory "${id}" is kept: ${reason}`);
      },
      onProgress: (done) => progress.show(formatMemoryCount(done)),
      signal,
    });
    progress.clear();
    const { removed, restored, changed, gone, failed } = result;
    if (directory === undefined && removed + restored + changed + gone + failed === 0) {
      throw new UsageError(
        `domain "${target.domain}" of ${target.name} has no memories of an import ${run}; name the domain with --domain`,
      );
    }
    process.stdout.write(
      json
        ? `${JSON.stringify({ kind: "rollback", run, ...result })}\n`
        : formatRollback(run, target, result),
    );
    return changed + failed === 0 ? 0 : 1;
  });
}

function formatRollback(
  run: string,
  { domain, name }: TargetDomain,
  { removed, restored, changed, gone, failed }: Rollback,
): string {
  const counts = [
    `${formatMemoryCount(removed)} removed`,
    ...(restored > 0 ? [`${formatCount(restored)} restored`] : []),
    ...(gone > 0 ? [`${formatCount(gone)} already deleted`] : []),
    ...(changed > 0 ? [`${formatCount(changed)} kept because they were changed`] : []),
    ...(failed > 0 ? [`${formatCount(failed)} could not be restored`] : []),
  ];
  return `rollback of import ${run} in domain "${domain}" of ${name}: ${counts.join(", ")}\n`;
}
