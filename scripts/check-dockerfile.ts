/**
 * Carries out a Dockerfile without an engine: `node scripts/check-dockerfile.ts`, as root, on Debian.
 *
 * Every stage gets a bare directory tree like its base image, every instruction is carried out in it by chroot, and the
 * result is started as its user: it has to become ready and healthy, keep a memory in its volume over a restart, stop on
 * SIGTERM, and write nowhere else. Everything happens in namespaces of its own and below one temporary directory, so
 * that nothing stays mounted or running, however it ends. Exits 1 if a step fails. What it cannot see: the real base image
 * (Debian's packages and npm are this machine's), an engine's own limits and network, other processors than this one.
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

/** Nothing listens there: a server must become ready and healthy without its embedder. */
const NO_OLLAMA = "http://127.0.0.1:1";

function say(line: string): void {
  console.log(`check-dockerfile: ${line}`);
}

/** Reads the Dockerfile, then starts this program again in namespaces of its own; returns the exit code. */
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
    // Whichever process is killed, those below it die too, and with the last of them its mounts.
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
    // A process group of its own: Ctrl-C reaches this process alone, which then ends the others.
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
  say(`image of ${await sizeOf(image.root)} MB, the base image's part included`);
  await tryImage(image, work);
  say(`passed after ${((performance.now() - started) / 1_000).toFixed(0)} s`);
}

/** The tree that stands in for the base image of all stages. */
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
    if (codename !== debian) say(`this machine has Debian ${codename} in place of ${debian}`);
  }
  await makeBaseImage(base);
  say(`base image stood in for by ${await sizeOf(base)} MB of this machine's Debian, Node and npm`);
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
    const told = `HEALTHCHECK: exit ${outcome.code} after ${outcome.milliseconds.toFixed(0)} ms: ${outcome.output.trim()}`;
    if (outcome.code !== expected) throw new StepError(`${told}\nexpected exit ${expected}`);
    say(told);
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
      if (code !== 0) throw new StepError(`the server ended with ${code} after SIGTERM`);
      say(`SIGTERM: exit 0 after ${milliseconds.toFixed(0)} ms`);
    } catch (error) {
      say(`the server said:\n${lastLines(server.output())}`);
      throw error;
    }
  };

  const refused = await container.runInContainer(image, [...image.entrypoint, ...image.cmd], base, 30_000);
  if (refused.code !== 2 || !refused.output.includes("MEMORY_ALLOW_UNAUTHENTICATED")) {
    throw new StepError(
      `without MEMORY_ALLOW_UNAUTHENTICATED it ended with ${refused.code}:\n${refused.output}`,
    );
  }
  say("without MEMORY_ALLOW_UNAUTHENTICATED: refuses to start, exit 2");
  await serve(async () => {
    await checkHealth(0);
    await container.call(port, "Store", memory);
  });
  await checkHealth(1);
  await serve(async () => {
    const answer = await container.call(port, "Store", memory);
    if (!JSON.stringify(answer).includes("UNCHANGED")) {
      throw new StepError(`stored a second time in the same volume: ${JSON.stringify(answer)}`);
    }
    say("a second container on the same volume has the memory of the first");
  });

  const written = container.differences(before, container.snapshot(image));
  if (written.length > 0) throw new StepError(`written outside the volumes:\n${written.join("\n")}`);
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
  // Not process.exitCode: a server may still run, and it ends with this process.
  process.exit(1);
}
