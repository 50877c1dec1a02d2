import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { readStartFlags } from "../test/support/server/start-flags.ts";

/** A program of this repository, running in a process of its own. */
export interface Program {
  readonly url: string;
  /** Processor time used so far, in seconds, all threads together; undefined where the system does not tell. */
  cpuSeconds(): number | undefined;
  /** Ends it as an operator would, and waits for that. Idempotent. */
  stop(): Promise<void>;
}

const START_MS = 60_000;
const STOP_MS = 30_000;

/**
 * Starts `src/main.ts serve` on a free port.
 *
 * @param profileDirectory Where the process leaves a CPU profile of itself when it ends.
 * @throws Error with the end of the log if it does not come up.
 */
export async function startServer(
  environment: Readonly<Record<string, string>>,
  profileDirectory?: string,
): Promise<Program> {
  const flags = profileDirectory === undefined ? [] : ["--cpu-prof", `--cpu-prof-dir=${profileDirectory}`];
  return await startProgram(
    [...readStartFlags(), ...flags, pathOf("../src/main.ts"), "serve"],
    { MEMORY_PORT: "0", ...environment },
    (line) => {
      const entry = parsed(line);
      return entry?.msg === "serving" && typeof entry.url === "string" ? entry.url : undefined;
    },
  );
}

/** Starts the fake Ollama on a free port: its vectors are made from words, at a fraction of a model's cost. */
export async function startFakeOllamaProcess(): Promise<Program> {
  return await startProgram([pathOf("../qa/fakes/ollama/main.ts")], { FAKE_OLLAMA_PORT: "0" }, (line) => {
    return /^(http:\S+) is a fake Ollama/.exec(line)?.[1];
  });
}

async function startProgram(
  argv: readonly string[],
  environment: Readonly<Record<string, string>>,
  urlIn: (line: string) => string | undefined,
): Promise<Program> {
  // Nothing of the caller's environment: a POSTGRES_HOST of the shell would change what is measured.
  const child = spawn(process.execPath, argv, {
    env: { PATH: process.env.PATH ?? "", ...environment },
    stdio: ["ignore", "pipe", "pipe"],
  });
  // Also when this process ends early, as a test runner ends its workers.
  const killChild = () => void child.kill();
  process.once("exit", killChild);
  child.once("exit", () => process.off("exit", killChild));
  const lastLines: string[] = [];
  const { promise: url, resolve, reject } = Promise.withResolvers<string>();
  for (const stream of [child.stdout, child.stderr]) {
    createInterface({ input: stream }).on("line", (line) => {
      lastLines.push(line);
      if (lastLines.length > 20) lastLines.shift();
      const found = urlIn(line);
      if (found !== undefined) resolve(found);
    });
  }
  const failed = (why: string) => reject(new Error(`${argv.at(-1)} ${why}:\n${lastLines.join("\n")}`));
  child.once("error", (error) => failed(error.message));
  child.once("exit", (code) => failed(`ended with code ${code}`));
  const timer = setTimeout(() => failed("did not come up"), START_MS);
  try {
    return {
      url: await url,
      cpuSeconds: () => cpuSecondsOf(child.pid),
      stop: () => stop(child),
    };
  } catch (error) {
    await stop(child);
    throw error;
  } finally {
    clearTimeout(timer);
  }
}

async function stop(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined) return;
  const exited = once(child, "exit");
  child.kill("SIGTERM");
  const timer = setTimeout(() => child.kill("SIGKILL"), STOP_MS);
  await exited;
  clearTimeout(timer);
}

/** Linux counts it in hundredths of a second; its name, the second field, may contain spaces. */
function cpuSecondsOf(pid: number | undefined): number | undefined {
  try {
    const [, rest = ""] = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ");
    const fields = rest.split(" ");
    const seconds = (Number(fields[11]) + Number(fields[12])) / 100;
    return Number.isFinite(seconds) ? seconds : undefined;
  } catch {
    return undefined;
  }
}

function parsed(line: string): Record<string, unknown> | undefined {
  try {
    return JSON.parse(line);
  } catch {
    return undefined;
  }
}

function pathOf(relative: string): string {
  return fileURLToPath(new URL(relative, import.meta.url));
}
