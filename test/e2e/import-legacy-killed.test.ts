import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { type FakeOllama, startFakeOllama } from "../../qa/fakes/ollama/index.ts";
import { writeLegacyDirectory } from "../legacy/write-directory.ts";
import { createDataDirectory } from "../support/postgres/data-directory.ts";
import { runProgram, startProgram } from "../support/server/server-process.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";

vi.setConfig({ testTimeout: 600_000, hookTimeout: 60_000 });

const MEMORIES = 300;
const KILLS = Number(process.env.TEST_KILLS ?? 3);
/** The worker embeds the memories it had leased when it was killed a second time. */
const CLAIM = 64;

let ollama: FakeOllama;
let directory: Awaited<ReturnType<typeof temporaryDirectory>>;

beforeAll(async () => {
  ollama = await startFakeOllama({ perTextMs: 2 });
  directory = await temporaryDirectory();
});

afterAll(async () => {
  await ollama?.close();
  await directory?.remove();
});

/** Returns the texts sent to be embedded, starting with the given request. */
function embedded(from = 0): string[] {
  return ollama.requests.slice(from).flatMap(({ path, json }) => {
    if (path !== "/api/embed" || typeof json !== "object" || json === null || !("input" in json)) return [];
    const { input } = json;
    return (Array.isArray(input) ? input : [input]).filter((text) => String(text).includes("memory number"));
  });
}

async function verified(env: Readonly<Record<string, string>>) {
  const args = [
    "import-legacy",
    source,
    "--verify",
    "--report",
    join(directory.path, "verification"),
    "--json",
  ];
  const { stdout } = await runProgram(args, { env });
  const { ready, equal, extra } = JSON.parse(stdout) as Record<string, number>;
  return { ready, equal, extra };
}

async function stateOf(report: string): Promise<{ readonly run?: string; readonly complete: boolean }> {
  const text = await readFile(join(report, "run.json"), "utf8").catch(() => '{"complete":false}');
  return JSON.parse(text);
}

let source: string;

test(`an import that was killed and restarted ${KILLS} times ends like an undisturbed one`, async () => {
  source = await writeLegacyDirectory(
    join(directory.path, "source"),
    Array.from({ length: MEMORIES }, (_, n) => ({
      id: `m${n}`,
      content: `memory number ${n} of some words`,
    })),
  );
  await using undisturbed = await createDataDirectory();
  const started = performance.now();
  const whole = await runProgram(["import-legacy", source, "--report", join(directory.path, "whole")], {
    env: { ...undisturbed.env, OLLAMA_API_URL: ollama.url },
  });
  const durationMs = performance.now() - started;
  expect(whole.code, whole.stderr).toBe(0);
  expect(embedded()).toHaveLength(MEMORIES);

  let interrupted = 0;
  for (let round = 0; interrupted < KILLS; round++) {
    await using data = await createDataDirectory();
    const env = { ...data.env, OLLAMA_API_URL: ollama.url };
    const report = join(directory.path, `killed${round}`);
    const args = ["import-legacy", source, "--report", report];
    const before = ollama.requests.length;
    let kills = 0;
    let run: string | undefined;
    while (interrupted < KILLS) {
      const { child, exited } = startProgram(args, { env });
      child.stdout?.resume();
      await Promise.race([exited, sleep(durationMs * Math.random())]);
      child.kill("SIGKILL");
      if ((await exited).signal !== "SIGKILL") break;
      interrupted++;
      kills++;
      const state = await stateOf(report);
      // Every restart continues the same run.
      run ??= state.run;
      expect(state.run).toBe(run);
      if (state.complete) break;
    }
    if (!(await stateOf(report)).complete) {
      const last = await runProgram(args, { env });
      expect(last.code, last.stderr).toBe(0);
    }
    expect(await verified(env)).toEqual({ ready: MEMORIES, equal: MEMORIES, extra: 0 });
    const texts = embedded(before);
    console.info(`${kills} kills: ${texts.length - MEMORIES} of ${MEMORIES} texts were embedded twice`);
    expect(new Set(texts).size).toBe(MEMORIES);
    expect(texts.length).toBeLessThanOrEqual(MEMORIES + kills * CLAIM);
  }
});
