import { readConfig } from "../app/config.ts";
import { diagnose } from "./doctor/diagnose.ts";
import { formatReport } from "./doctor/format-report.ts";

/**
 * Prints what is reachable, what is stored, what is wrong and how to fix it. Returns the exit code: 1 if there is a
 * problem.
 *
 * @throws SettingsError
 */
export async function doctor({ json }: { readonly json: boolean }): Promise<number> {
  const report = await diagnose(readConfig(process.env), process.env);
  process.stdout.write(json ? `${JSON.stringify(report, undefined, 2)}\n` : formatReport(report));
  return report.checks.some((check) => check.status === "problem") ? 1 : 0;
}
