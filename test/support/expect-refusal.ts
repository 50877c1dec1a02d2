import { expect } from "vitest";
import { runProgram } from "./server/server-process.ts";

/** Exit code if the server cannot start in its environment. */
const EXIT_FAILURE = 1;

/** Runs `serve` and expects it to exit with one sentence and nothing else on standard error. */
export async function expectRefusal(env: Readonly<Record<string, string>>, sentence: RegExp): Promise<void> {
  const { code, stderr } = await runProgram(["serve"], { env });
  expect(stderr).toMatch(/^memory-service: [^\n]+\n$/);
  expect(stderr).toMatch(sentence);
  expect(stderr).not.toMatch(/Error\b|\.ts:\d+/);
  expect(code).toBe(EXIT_FAILURE);
}
