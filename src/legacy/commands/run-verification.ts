import { writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { formatMemoryCount } from "../../cli/output/format-count.ts";
import { messageOf } from "../../util/error-message.ts";
import { makeDirectory } from "../../util/make-directory.ts";
import { StartupError } from "../../util/startup-error.ts";
import { formatVerification, type VerificationReport } from "../import/format-import.ts";
import { type Difference, verifySource } from "../import/verify-source.ts";
import type { LegacySource } from "../readers/open-legacy-source.ts";
import type { ImportLegacyCall } from "./import-legacy-options.ts";
import { withTargetDomain } from "./open-target-domain.ts";

/** Compares a source with what was imported, and writes a report. Returns the exit code. */
export async function runVerification(source: LegacySource, call: ImportLegacyCall): Promise<number> {
  const { signal, progress } = call;
  const memories = source.database.count("memories");
  return await withTargetDomain(call, async (target) => {
    const directory = createReportDirectory(call.report);
    const differences: Difference[] = [];
    const result = await verifySource(source, target, {
      onDifference: async (difference) => void differences.push(difference),
      onProgress: (done) => progress.show(`${formatMemoryCount(done)} compared`, done, memories),
      signal,
    });
    progress.clear();
    const report: VerificationReport = {
      kind: "verification",
      source: source.path,
      target: { name: target.name, domain: target.domain },
      ...result,
    };
    const text = formatVerification(report);
    await writeFile(join(directory, "verification.json"), `${JSON.stringify(report, undefined, 2)}\n`);
    await writeFile(join(directory, "verification.txt"), text);
    await writeFile(
      join(directory, "differences.jsonl"),
      differences.map((difference) => `${JSON.stringify(difference)}\n`).join(""),
    );
    process.stdout.write(call.json ? `${JSON.stringify(report)}\n` : text);
    return differences.length === 0 ? 0 : 1;
  });
}

/** Creates the directory before the comparison, so that a wrong path fails early. @throws StartupError */
function createReportDirectory(given: string | undefined): string {
  const time = new Date().toISOString().replace(/\.\d+|[-:]/g, "");
  const directory = resolve(given ?? `import-legacy-verify-${time}`);
  try {
    makeDirectory(directory);
  } catch (error) {
    throw new StartupError(
      `cannot write the report: ${messageOf(error)}; use a different directory with --report`,
    );
  }
  return directory;
}
