/**
 * Prints "passed failed skipped" of a vitest JSON report, which .ci/run adds up: `node scripts/summarise-tests.ts
 * report.json`. A file that could not be loaded counts as one failed test, and so does a report without tests or one
 * that vitest marks as failed for another reason.
 */
import { readFileSync } from "node:fs";
import process from "node:process";

/** The part of vitest's JSON report that this script reads. */
interface Report {
  readonly success: boolean;
  readonly testResults: readonly {
    readonly status: string;
    readonly assertionResults: readonly { readonly status: string }[];
  }[];
}

function summarise(report: Report): { passed: number; failed: number; skipped: number } {
  const tests = report.testResults.flatMap((file) => file.assertionResults.map((test) => test.status));
  const passed = tests.filter((status) => status === "passed").length;
  const failedTests = tests.filter((status) => status === "failed").length;
  const failedFiles = report.testResults.filter(
    (file) => file.status === "failed" && file.assertionResults.every((test) => test.status !== "failed"),
  ).length;
  const failed = failedTests + failedFiles;
  return {
    passed,
    failed: failed === 0 && (passed === 0 || !report.success) ? 1 : failed,
    skipped: tests.length - passed - failedTests,
  };
}

const path = process.argv[2];
if (path === undefined) throw new Error("usage: summarise-tests.ts REPORT");
const { passed, failed, skipped } = summarise(JSON.parse(readFileSync(path, "utf8")) as Report);
console.log(`${passed} ${failed} ${skipped}`);
