import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { lstatSync, mkdirSync, readdirSync, readFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { type Image, inImage } from "./build-image.ts";
import { mustRun, type Outcome, run, StepError } from "./command.ts";

/** Docker kills a container that is still running this long after SIGTERM. */
const STOP_TIMEOUT_MS = 10_000;

/** A running container. */
export interface Container {
  readonly output: () => string;
  /** Throws if the program has exited. */
  readonly assertRunning: () => void;
  /** Sends SIGTERM and waits until the program has exited. */
  readonly stop: () => Promise<{ readonly code: number | null; readonly milliseconds: number }>;
}

/** Creates a volume for each VOLUME with the content and owner of the path in the image, as an engine does. */
export async function makeVolumes(image: Image, work: string): Promise<Map<string, string>> {
  const volumes = new Map<string, string>();
  for (const path of image.volumes) {
    const volume = join(work, `volume-${volumes.size + 1}`);
    mkdirSync(image.root + path, { recursive: true });
    await mustRun(["cp", "--archive", image.root + path, volume]);
    volumes.set(path, volume);
  }
  return volumes;
}

/** Mounts the volumes at their paths in the image. */
export async function mountVolumes(image: Image, volumes: ReadonlyMap<string, string>): Promise<void> {
  for (const [path, volume] of volumes) await mustRun(["mount", "--bind", volume, image.root + path]);
}

/** Runs a command in the image and waits for it, as an engine runs a health check. */
export function runInContainer(
  image: Image,
  words: readonly string[],
  env: Readonly<Record<string, string>>,
  timeoutMs: number,
): Promise<Outcome> {
  const { command, env: own } = inImage(image, words);
  return run(command, { env: { ...own, ...env }, timeoutMs });
}

/** Starts ENTRYPOINT and CMD as process 1 of a separate process namespace. */
export function startContainer(image: Image, env: Readonly<Record<string, string>>): Container {
  const { command, env: own } = inImage(image, [...image.entrypoint, ...image.cmd]);
  const namespace = [
    "/usr/bin/unshare",
    "--pid",
    "--fork",
    "--kill-child",
    `--mount-proc=${image.root}/proc`,
  ];
  const [program = "", ...parameters] = [...namespace, ...command];
  const child = spawn(program, parameters, { env: { ...own, ...env }, stdio: ["ignore", "pipe", "pipe"] });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding("utf8").on("data", (text: string) => {
      output += text;
    });
  }
  const closed = once(child, "close");
  return {
    output: () => output,
    assertRunning: () => {
      if (child.exitCode === null && child.signalCode === null) return;
      throw new StepError(`the server exited with ${child.exitCode ?? child.signalCode}`);
    },
    stop: async () => {
      const asked = performance.now();
      process.kill(firstProcess(child), "SIGTERM");
      const kill = setTimeout(() => child.kill("SIGKILL"), STOP_TIMEOUT_MS);
      const [code] = (await closed) as [number | null];
      clearTimeout(kill);
      const milliseconds = performance.now() - asked;
      if (milliseconds >= STOP_TIMEOUT_MS) {
        throw new StepError(`the server was still running ${STOP_TIMEOUT_MS} ms after SIGTERM`);
      }
      return { code, milliseconds };
    },
  };
}

/** Waits until /readyz returns 200. Returns the time that it took, in milliseconds. */
export async function untilReady(container: Container, port: number, timeoutMs: number): Promise<number> {
  const started = performance.now();
  while (performance.now() - started < timeoutMs) {
    container.assertRunning();
    const answer = await fetch(`http://127.0.0.1:${port}/readyz`).catch(() => undefined);
    await answer?.arrayBuffer();
    if (answer?.status === 200) return performance.now() - started;
    await delay(50);
  }
  throw new StepError(`the server was not ready after ${timeoutMs} ms`);
}

/** Calls a method of the service with the Connect protocol and JSON. */
export async function call(port: number, method: string, request: object): Promise<unknown> {
  const answer = await fetch(`http://127.0.0.1:${port}/memoryservice.v1.MemoryService/${method}`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(request),
  });
  const text = await answer.text();
  if (!answer.ok) throw new StepError(`${method} returned ${answer.status}: ${text}`);
  return JSON.parse(text);
}

/** Finds a free port. */
export async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  server.close();
  if (address === null || typeof address === "string") throw new StepError("no free port");
  return address.port;
}

/** Returns the state of every file and directory of a container outside its volumes, by path. */
export function snapshot(image: Image): Map<string, string> {
  const states = new Map<string, string>();
  const skipped = new Set(["/proc", "/sys", ...image.volumes]);
  const visit = (directory: string) => {
    for (const name of readdirSync(image.root + directory)) {
      const path = `${directory}/${name}`;
      if (skipped.has(path)) continue;
      const stats = lstatSync(image.root + path, { bigint: true });
      if (stats.isCharacterDevice()) continue;
      states.set(path, `${stats.mode} ${stats.uid} ${stats.size} ${stats.mtimeNs} ${stats.ctimeNs}`);
      if (stats.isDirectory()) visit(path);
    }
  };
  visit("");
  return states;
}

/** Returns the paths that were added, changed or removed between two snapshots. */
export function differences(before: Map<string, string>, after: Map<string, string>): string[] {
  const paths = new Set([...before.keys(), ...after.keys()]);
  return [...paths].filter((path) => before.get(path) !== after.get(path)).sort();
}

/** Returns the only child of `unshare --fork`, which is process 1 of the container. */
function firstProcess(child: ChildProcess): number {
  const children = readFileSync(`/proc/${child.pid}/task/${child.pid}/children`, "utf8").trim().split(" ");
  const pid = Number(children[0]);
  if (!Number.isInteger(pid) || pid <= 0) throw new StepError("the server has no process");
  return pid;
}
