/**
 * Builds and runs the Dockerfile without a container engine: `node scripts/check-dockerfile.ts`, as root, on Debian.
 *
 * Every stage gets a directory tree like its base image, in which chroot executes the instructions. Then the image is
 * started as its user. It must become ready and healthy, keep a memory in its volume across a restart, stop on SIGTERM,
 * and write nowhere else. Everything runs in separate namespaces and below one temporary directory, so that nothing
 * stays mounted or running afterwards. The exit code is 1 if a step fails.
 *
 * The check does not cover the real base image (Debian's packages and npm come from this machine), the limits and the
 * network of an engine, and other processors.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { makeBaseImage } from "./check-dockerfile/base-image.ts";
import { copyContext, readIgnoreRules } from "./check-dockerfile/build-context.ts";
import { buildImage, type Image } from "./check-dockerfile/build-image.ts";
import { checkSources, readNodeImage } from "./check-dockerfile/check-sources.ts";
import { lastLines, mustRun, StepError } from "./check-dockerfile/command.ts";
import type { Stage } from "./check-dockerfile/parse-dockerfile.ts";
import * as container from "./check-dockerfile/run-image.ts";

const ROOT = fileURLToPath(new URL("..", import.meta.url));

/** Nothing listens there, because a server must become ready and healthy without its embedder. */
const NO_OLLAMA = "http://127.0.0.1:1";

function say(line: string): void {
  console.log(`check-dockerfile: ${line}`);
}

/** Reads the Dockerfile, then starts this program again in separate namespaces. Returns the exit code. */
async function outside(): Promise<number> {
  const { stages, problems } = checkSources(ROOT);
  for (const problem of problems) say(problem);
  if (problems.length > 0) return 1;
  say(`${stages.length} stages, base image ${[...new Set(stages.map(({ image }) => image))].join(", ")}`);
  if (process.getuid?.() !== 0) throw new StepError("must run as root: it mounts and uses chroot");

  const work = mkdtempSync(join(tmpdir(), "check-dockerfile-"));
  const parameters = [
    "--mount",
    "--propagation",
    "private",
    "--pid",
    "--fork",
    "--kill-child",
    "--mount-proc",
  ];
  const child = spawn(
    "setpriv",
    // If any process is killed, its children die with it, and the mounts disappear with the last of them.
    [
      "--pdeathsig",
      "KILL",
      "unshare",
      ...parameters,
      process.execPath,
      fileURLToPath(import.meta.url),
      "--inside",
      work,
    ],
    // A separate process group, so that Ctrl-C reaches only this process, which then ends the others.
    { stdio: ["ignore", "inherit", "inherit"], detached: true, cwd: ROOT },
  );
  let interrupted = false;
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) {
    process.on(signal, () => {
      interrupted = true;
      child.kill("SIGKILL");
    });
  }
  try {
    const [code] = (await once(child, "close")) as [number | null];
    return interrupted ? 130 : (code ?? 1);
  } finally {
    rmSync(work, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 });
  }
}

async function inside(work: string): Promise<void> {
  const started = performance.now();
  const { stages } = checkSources(ROOT);
  const base = await makeBase(stages, work);
  const context = join(work, "context");
  mkdirSync(context);
  const isSent = readIgnoreRules(readFileSync(join(ROOT, ".dockerignore"), "utf8"));
  say(`build context of ${copyContext(ROOT, isSent, context)} files`);
  const image = await buildImage(stages, { base, context, work, log: say });
  say(`image of ${await sizeOf(image.root)} MB, including the base image`);
  await tryImage(image, work);
  say(`passed after ${((performance.now() - started) / 1_000).toFixed(0)} s`);
}

/** Creates the tree that replaces the base image of all stages. */
async function makeBase(stages: readonly Stage[], work: string): Promise<string> {
  const base = join(work, "base");
  for (const { image } of stages) {
    const { nodeVersion, debian } = readNodeImage(image);
    if (process.version !== `v${nodeVersion}`) {
      throw new StepError(
        `must run with Node ${nodeVersion}, as in node_modules/.bin, not ${process.version}`,
      );
    }
    const codename = /^VERSION_CODENAME=(.*)$/m.exec(readFileSync("/etc/os-release", "utf8"))?.[1];
    if (codename !== debian) say(`this machine runs Debian ${codename} instead of ${debian}`);
  }
  await makeBaseImage(base);
  say(`replaced the base image with ${await sizeOf(base)} MB of this machine's Debian, Node and npm`);
  return base;
}

async function tryImage(image: Image, work: string): Promise<void> {
  const { healthcheck } = image;
  if (healthcheck === undefined) throw new StepError("the image has no HEALTHCHECK");
  if (image.user === "root") throw new StepError("the image runs as root");
  const volumes = await container.makeVolumes(image, work);
  await container.mountVolumes(image, volumes);
  const port = await container.freePort();
  const base = { MEMORY_PORT: String(port), OLLAMA_API_URL: NO_OLLAMA };
  const env = { ...base, MEMORY_ALLOW_UNAUTHENTICATED: "true" };
  const memory = { id: "kept", content: "kept in the volume" };
  const before = container.snapshot(image);
  const checkHealth = async (expected: number) => {
    const outcome = await container.runInContainer(image, healthcheck.command, env, healthcheck.timeoutMs);
    const result = `HEALTHCHECK: exit ${outcome.code} after ${outcome.milliseconds.toFixed(0)} ms: ${outcome.output.trim()}`;
    if (outcome.code !== expected) throw new StepError(`${result}\nexpected exit ${expected}`);
    say(result);
  };
  const serve = async (use: () => Promise<void>) => {
    const server = container.startContainer(image, env);
    try {
      const ready = await container.untilReady(server, port, healthcheck.unhealthyAfterMs);
      say(
        `${[...image.entrypoint, ...image.cmd].join(" ")} as ${image.user}: ready after ${ready.toFixed(0)} ms`,
      );
      await use();
      const { code, milliseconds } = await server.stop();
      if (code !== 0) throw new StepError(`the server exited with ${code} after SIGTERM`);
      say(`SIGTERM: exit 0 after ${milliseconds.toFixed(0)} ms`);
    } catch (error) {
      say(`output of the server:\n${lastLines(server.output())}`);
      throw error;
    }
  };

  const refused = await container.runInContainer(image, [...image.entrypoint, ...image.cmd], base, 30_000);
  if (refused.code !== 2 || !refused.output.includes("MEMORY_ALLOW_UNAUTHENTICATED")) {
    throw new StepError(
      `without MEMORY_ALLOW_UNAUTHENTICATED it exited with ${refused.code}:\n${refused.output}`,
    );
  }
  say("without MEMORY_ALLOW_UNAUTHENTICATED it does not start, exit 2");
  await serve(async () => {
    await checkHealth(0);
    await container.call(port, "Store", memory);
  });
  await checkHealth(1);
  await serve(async () => {
    const answer = await container.call(port, "Store", memory);
    if (!JSON.stringify(answer).includes("UNCHANGED")) {
      throw new StepError(`the memory was stored again in the same volume: ${JSON.stringify(answer)}`);
    }
    say("a second container with the same volume has the memory of the first");
  });

  const written = container.differences(before, container.snapshot(image));
  if (written.length > 0)
    throw new StepError(`files were written outside the volumes:\n${written.join("\n")}`);
  for (const [path, volume] of volumes) say(`written only below ${path}: ${await sizeOf(volume)} MB`);
}

async function sizeOf(directory: string): Promise<string> {
  const output = await mustRun(["du", "--summarize", "--one-file-system", "--block-size=1M", directory]);
  return output.split("\t")[0] ?? "";
}

try {
  const [mode, work] = process.argv.slice(2);
  if (mode === undefined) process.exitCode = await outside();
  else if (mode === "--inside" && work !== undefined) await inside(work);
  else throw new StepError("usage: check-dockerfile.ts");
} catch (error) {
  say(error instanceof StepError ? error.message : String(error instanceof Error ? error.stack : error));
  // Not process.exitCode, because a server may still be running; it ends with this process.
  process.exit(1);
}
