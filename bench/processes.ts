import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { readStartFlags } from "../test/support/server/start-flags.ts";

/** A program of this repository in a separate process. */
export interface Program {
  readonly url: string;
  /** Processor time of all threads so far, in seconds; undefined if the system does not report it. */
  cpuSeconds(): number | undefined;
  /** Stops the process as an operator would, and waits for its exit. Idempotent. */
  stop(): Promise<void>;
}

const START_MS = 60_000;
const STOP_MS = 30_000;

/**
 * Starts `src/main.ts serve` on a free port.
 *
 * @param profileDirectory Directory for a CPU profile, which the process writes when it exits.
 * @throws Error with the end of the log if it does not start.
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

/** Starts the fake Ollama on a free port: it computes vectors from words, at a fraction of a model's cost. */
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
  // Without the caller's environment: a POSTGRES_HOST of the shell would change what is measured.
  const child = spawn(process.execPath, argv, {
    env: { PATH: process.env.PATH ?? "", ...environment },
    stdio: ["ignore", "pipe", "pipe"],
  });
  // Also if this process exits early, as a test runner's workers do.
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
  const timer = setTimeout(() => failed("did not start"), START_MS);
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

/** Reads the time that Linux counts in hundredths of a second; the process name, field two, may contain spaces. */
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
