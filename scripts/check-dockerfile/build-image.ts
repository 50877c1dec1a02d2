import { existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { dirname, join, posix } from "node:path";
import { baseEnvironment } from "./base-image.ts";
import { readNodeImage } from "./check-sources.ts";
import { lastLines, mustRun, run, StepError } from "./command.ts";
import type { Copy, ExecForm, Healthcheck, Instruction, Stage } from "./parse-dockerfile.ts";

/** A built stage: its files and the configuration of its containers. */
export interface Image {
  readonly root: string;
  readonly env: Record<string, string>;
  workdir: string;
  user: string;
  readonly volumes: string[];
  entrypoint: ExecForm;
  cmd: ExecForm;
  healthcheck: Healthcheck | undefined;
}

/** The inputs of a build. */
export interface BuildInput {
  /** Directory tree of the base image. */
  readonly base: string;
  readonly context: string;
  /** Directory in which every stage gets its tree. */
  readonly work: string;
  readonly log: (line: string) => void;
}

/** Absolute path of chroot on this machine, because the steps have their own PATH. */
const CHROOT = "/usr/sbin/chroot";

/**
 * Mount point for what RUN needs from this machine to reach the npm registry. A mount does not become part of the
 * image.
 */
const MACHINE = "/mnt";

/**
 * Executes the instructions of every stage and returns the last image. Leaves /dev, /proc and /sys mounted in the
 * trees.
 *
 * @throws StepError that names the line of the instruction.
 */
export async function buildImage(stages: readonly Stage[], input: BuildInput): Promise<Image> {
  const built = new Map<string, Image>();
  const machine = await prepareMachine(join(input.work, "machine"));
  let image: Image | undefined;
  for (const [index, stage] of stages.entries()) {
    const name = stage.name ?? `stage ${index + 1}`;
    image = await startStage(stage, join(input.work, `stage-${index + 1}`), input.base);
    await mustRun(["mount", "--rbind", machine.directory, image.root + MACHINE]);
    for (const [step, instruction] of stage.instructions.entries()) {
      const started = performance.now();
      try {
        await execute(instruction, image, { ...input, built, machine });
      } catch (error) {
        if (!(error instanceof Error)) throw error;
        throw new StepError(`Dockerfile line ${instruction.line}: ${instruction.text}\n${error.message}`);
      }
      const seconds = ((performance.now() - started) / 1_000).toFixed(1);
      input.log(`${name} ${step + 1}/${stage.instructions.length}  ${instruction.text}  ${seconds} s`);
    }
    await mustRun(["umount", "--recursive", image.root + MACHINE]);
    built.set(stage.name ?? "", image);
  }
  if (image === undefined) throw new StepError("the Dockerfile has no stage");
  return image;
}

/** Returns the user and group ids of a USER instruction, from the image's /etc/passwd. */
export function idsOf(image: Image): { uid: number; gid: number; home: string } {
  for (const line of readFileSync(join(image.root, "etc/passwd"), "utf8").split("\n")) {
    const [name, , uid, gid, , home = "/"] = line.split(":");
    if (name === image.user || uid === image.user) return { uid: Number(uid), gid: Number(gid), home };
  }
  throw new StepError(`the image has no user ${image.user}`);
}

/** Wraps a command to run in an image, as its user, in its directory and with only its environment. */
export function inImage(image: Image, command: ExecForm): { command: string[]; env: Record<string, string> } {
  const { uid, gid, home } = idsOf(image);
  const chroot = [CHROOT, `--userspec=${uid}:${gid}`, `--groups=${gid}`, image.root];
  return {
    command: [...chroot, "/usr/bin/env", "--chdir", image.workdir, ...command],
    env: { HOME: home, HOSTNAME: "check-dockerfile", ...image.env },
  };
}

async function startStage(stage: Stage, root: string, base: string): Promise<Image> {
  await mustRun(["cp", "--archive", "--reflink=auto", base, root]);
  // A separate device directory, so that nothing outside the tree can be written through it.
  await mustRun(["mount", "-t", "tmpfs", "-o", "mode=755,size=64m", "tmpfs", join(root, "dev")]);
  const devices = { null: 3, zero: 5, full: 7, random: 8, urandom: 9 };
  for (const [name, minor] of Object.entries(devices)) {
    await mustRun(["mknod", "-m", "666", join(root, "dev", name), "c", "1", String(minor)]);
  }
  for (const [link, target] of [
    ["fd", "/proc/self/fd"],
    ["stdin", "fd/0"],
    ["stdout", "fd/1"],
    ["stderr", "fd/2"],
  ]) {
    await mustRun(["ln", "-s", target ?? "", join(root, "dev", link ?? "")]);
  }
  await mustRun(["install", "-d", "-m", "1777", join(root, "dev/shm")]);
  await mustRun(["mount", "-t", "proc", "proc", join(root, "proc")]);
  await mustRun(["mount", "-t", "sysfs", "-o", "ro", "sysfs", join(root, "sys")]);
  for (const name of ["resolv.conf", "hosts"]) {
    if (existsSync(`/etc/${name}`)) writeFileSync(join(root, "etc", name), readFileSync(`/etc/${name}`));
  }
  return {
    root,
    env: baseEnvironment(readNodeImage(stage.image).nodeVersion),
    workdir: "/",
    user: "root",
    volumes: [],
    entrypoint: [],
    cmd: [],
    healthcheck: undefined,
  };
}

interface StepInput extends BuildInput {
  readonly built: ReadonlyMap<string, Image>;
  readonly machine: Machine;
}

async function execute(instruction: Instruction, image: Image, input: StepInput): Promise<void> {
  switch (instruction.kind) {
    case "ENV":
      Object.assign(image.env, instruction.variables);
      return;
    case "WORKDIR":
      image.workdir = posix.resolve(image.workdir, instruction.value);
      mkdirSync(image.root + image.workdir, { recursive: true });
      return;
    case "USER":
      image.user = instruction.value;
      idsOf(image);
      return;
    case "VOLUME":
      image.volumes.push(...instruction.values);
      return;
    case "ENTRYPOINT":
      image.entrypoint = instruction.command;
      // ENTRYPOINT resets an earlier CMD.
      image.cmd = [];
      return;
    case "CMD":
      image.cmd = instruction.command;
      return;
    case "HEALTHCHECK":
      image.healthcheck = instruction;
      return;
    case "EXPOSE":
      return;
    case "COPY":
      return copy(instruction, image, input);
    case "RUN": {
      const { command, env } = inImage(image, instruction.command);
      const { code, output } = await run(command, { env: { ...input.machine.env, ...env } });
      if (code !== 0) throw new StepError(`exited with ${code}:\n${lastLines(output)}`);
    }
  }
}

async function copy({ from, sources, destination }: Copy, image: Image, input: StepInput): Promise<void> {
  const origin = from === undefined ? input.context : input.built.get(from)?.root;
  if (origin === undefined) throw new StepError(`no earlier stage is named ${from}`);
  const target = join(image.root, posix.resolve(image.workdir, destination));
  for (const source of sources) {
    const path = join(origin, source);
    if (!existsSync(path)) throw new StepError(`${source} does not exist`);
    if (statSync(path).isDirectory()) {
      // COPY copies the content of a directory, not the directory itself.
      mkdirSync(target, { recursive: true });
      await mustRun(["cp", "--archive", "--no-preserve=ownership", `${path}/.`, target]);
      continue;
    }
    const intoDirectory = destination.endsWith("/");
    if (!intoDirectory && existsSync(target) && statSync(target).isDirectory()) {
      throw new StepError(`${destination} is a directory; add a / at its end`);
    }
    mkdirSync(intoDirectory ? target : dirname(target), { recursive: true });
    await mustRun(["cp", "--archive", "--dereference", "--no-preserve=ownership", path, target]);
  }
}

/** What RUN gets from this machine: access to the npm registry, but none of the machine's files. */
interface Machine {
  readonly directory: string;
  readonly env: Record<string, string>;
}

/**
 * Prepares access to the npm registry with this machine's npm settings and its cache. An engine has its own network.
 */
async function prepareMachine(directory: string): Promise<Machine> {
  const settings = JSON.parse(await mustRun(["npm", "config", "list", "--json"])) as Record<string, unknown>;
  const env: Record<string, string> = {
    npm_config_cache: `${MACHINE}/npm-cache`,
    npm_config_update_notifier: "false",
  };
  mkdirSync(join(directory, "npm-cache"), { recursive: true });
  for (const name of ["registry", "proxy", "https-proxy", "noproxy", "strict-ssl"]) {
    const value = settings[name];
    if (typeof value === "string" && value !== "") env[`npm_config_${name.replaceAll("-", "_")}`] = value;
    if (value === false) env[`npm_config_${name.replaceAll("-", "_")}`] = "false";
  }
  for (const name of ["HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"]) {
    const value = process.env[name];
    if (value !== undefined) env[name] = value;
  }
  const certificates = {
    npm_config_cafile: settings.cafile,
    NODE_EXTRA_CA_CERTS: process.env.NODE_EXTRA_CA_CERTS,
  };
  for (const [name, path] of Object.entries(certificates)) {
    if (typeof path !== "string" || !existsSync(path)) continue;
    writeFileSync(join(directory, name), readFileSync(path));
    env[name] = `${MACHINE}/${name}`;
  }
  const cache = join(String(settings.cache), "_cacache");
  if (existsSync(cache)) {
    mkdirSync(join(directory, "npm-cache/_cacache"));
    await mustRun(["mount", "--bind", cache, join(directory, "npm-cache/_cacache")]);
  }
  return { directory, env };
}
