import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync, writeFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { readStartFlags } from "./start-flags.ts";

/** Memory and connections of a server process after a garbage collection of its main thread. */
export interface ProcessSample {
  /** Resident memory of all threads, in bytes. */
  readonly rss: number;
  /** JavaScript objects of the main thread, in bytes. */
  readonly heapUsed: number;
  /** Buffers and other external memory of the main thread, in bytes. */
  readonly external: number;
  /** TCP connections to callers, the database and the embedder. */
  readonly sockets: number;
}

/** The real server in a separate process that reports its memory use. */
export interface MeasuredServer {
  readonly url: string;
  readonly port: number;
  /** Log lines of level error or worse, and lines on standard error; at most the first 1,000. */
  readonly complaints: readonly string[];
  /** False once the process has ended. */
  isAlive(): boolean;
  sample(): Promise<ProcessSample>;
  /** Peak resident memory since the last call, in bytes; undefined if the system does not report it. */
  peakRss(): number | undefined;
  /** Sends SIGTERM, then SIGKILL if needed. Resolves to the exit code, or null if a signal ended the process. */
  stop(): Promise<number | null>;
}

const START_MS = 120_000;
const STOP_MS = 30_000;
const SAMPLE_MS = 60_000;
const maxComplaints = 1_000;

/** pino's number for the level error. */
const errorLevel = 50;

/** Starts `serve` on a free port without the caller's environment. @throws Error if it does not start */
export async function startMeasuredServer(
  environment: Readonly<Record<string, string>>,
): Promise<MeasuredServer> {
  const child = spawn(
    process.execPath,
    [
      ...readStartFlags(),
      "--expose-gc",
      "--import",
      pathOf("memory-hook.ts"),
      pathOf("../../../src/main.ts"),
      "serve",
    ],
    {
      env: { PATH: process.env.PATH ?? "", MEMORY_PORT: "0", ...environment },
      stdio: ["ignore", "pipe", "pipe", "ipc"],
    },
  );
  const killChild = () => void child.kill();
  process.once("exit", killChild);
  const exited = once(child, "exit").then(([code]) => {
    process.off("exit", killChild);
    return code as number | null;
  });

  const complaints: string[] = [];
  const complain = (line: string) => {
    if (complaints.length < maxComplaints) complaints.push(line);
  };
  const { promise: serving, resolve, reject } = Promise.withResolvers<string>();
  if (child.stdout === null || child.stderr === null) throw new Error("the server has no output");
  createInterface(child.stdout).on("line", (line) => {
    // Most lines are calls; parsing them would take processor time from the server.
    if (line.startsWith('{"level":30,') && !line.includes('"serving"')) return;
    const entry = parsed(line);
    if (entry?.msg === "serving") resolve(String(entry.url));
    else if (entry === undefined || Number(entry.level) >= errorLevel) complain(line);
  });
  createInterface(child.stderr).on("line", complain);
  exited.then((code) => reject(new Error(`the server ended with ${code}:\n${complaints.join("\n")}`)));
  const timer = setTimeout(() => reject(new Error("the server did not start")), START_MS);

  const stop = async () => {
    if (child.exitCode === null && child.signalCode === null) child.kill("SIGTERM");
    const killer = setTimeout(() => child.kill("SIGKILL"), STOP_MS);
    const code = await exited;
    clearTimeout(killer);
    return code;
  };
  const url = await serving.catch(async (error: unknown) => {
    await stop();
    throw error;
  });
  clearTimeout(timer);
  return {
    url,
    port: Number(new URL(url).port),
    complaints,
    isAlive: () => child.exitCode === null && child.signalCode === null,
    async sample() {
      const answered = once(child, "message", { signal: AbortSignal.timeout(SAMPLE_MS) });
      child.send("sample");
      const [sample] = (await answered) as [ProcessSample];
      return sample;
    },
    peakRss: () => readPeak(child.pid),
    stop,
  };
}

/** Resets the peak that Linux records for the process. */
function readPeak(pid: number | undefined): number | undefined {
  try {
    const kilobytes = /^VmHWM:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1];
    writeFileSync(`/proc/${pid}/clear_refs`, "5");
    return kilobytes === undefined ? undefined : Number(kilobytes) * 1_024;
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
