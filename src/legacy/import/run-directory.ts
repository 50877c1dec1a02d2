import { randomBytes } from "node:crypto";
import { createReadStream } from "node:fs";
import { open, readdir, readFile, rename, stat } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { createInterface } from "node:readline/promises";
import { messageOf } from "../../util/error-message.ts";
import { makeDirectory } from "../../util/make-directory.ts";
import { StartupError } from "../../util/startup-error.ts";

/** The state of an import run, with which it can be resumed and rolled back. */
export interface RunState {
  readonly run: string;
  readonly source: string;
  readonly target: string;
  readonly domain: string;
  readonly startTime: string;
  readonly complete: boolean;
}

/** The directory of an import run. */
export interface RunDirectory {
  readonly path: string;
  readonly state: RunState;
  /** Whether this resumes an interrupted run. */
  readonly resumed: boolean;
  /** Appends lines to a file. They are on disk when the promise resolves. */
  append(file: RunFile, lines: readonly unknown[]): Promise<void>;
  /** Writes a file atomically. */
  write(file: string, text: string): Promise<void>;
  /** Marks the run as complete. */
  complete(): Promise<void>;
}

/**
 * brought: ids and versions of memories, written before they are stored. replaced: records of the memories that were
 * overwritten. details: what the user should know about single memories.
 */
export type RunFile = "brought.jsonl" | "replaced.jsonl" | "details.jsonl";

const STATE_FILE = "run.json";
const PREFIX = "import-legacy-";

/** Creates a unique id that sorts by time, such as `20261123T014500Z-3f9a`. */
function newRunId(): string {
  const time = new Date().toISOString().replace(/\.\d+|[-:]/g, "");
  return `${time}-${randomBytes(2).toString("hex")}`;
}

/**
 * Opens the directory of an interrupted run with the same source and target, or creates a directory for a new run.
 *
 * @param given the path from the user. Defaults to `import-legacy-RUN` in the current directory.
 * @throws StartupError if the directory cannot be written or belongs to another run.
 */
export async function openRunDirectory(
  given: string | undefined,
  identity: Pick<RunState, "source" | "target" | "domain">,
): Promise<RunDirectory> {
  try {
    const found = await findInterrupted(given, identity);
    if (found !== undefined) return directoryOf(found.path, found.state, true);
    const state = { run: newRunId(), ...identity, startTime: new Date().toISOString(), complete: false };
    const path = resolve(given ?? `${PREFIX}${state.run}`);
    makeDirectory(path);
    await writeAtomically(join(path, STATE_FILE), json(state));
    return directoryOf(path, state, false);
  } catch (error) {
    if (error instanceof StartupError) throw error;
    throw new StartupError(
      `cannot write the report of the import: ${messageOf(error)}; use a different directory with --report`,
      { cause: error },
    );
  }
}

/** Opens the directory of a run; undefined if it does not exist. */
export async function findRunDirectory(
  given: string | undefined,
  run: string,
): Promise<RunDirectory | undefined> {
  const path = resolve(given ?? `${PREFIX}${run}`);
  const state = await readState(path);
  return state === undefined || state.run !== run ? undefined : directoryOf(path, state, true);
}

async function findInterrupted(
  given: string | undefined,
  identity: Pick<RunState, "source" | "target" | "domain">,
): Promise<{ path: string; state: RunState } | undefined> {
  const isSameImport = (state: RunState) =>
    state.source === identity.source && state.target === identity.target && state.domain === identity.domain;
  if (given !== undefined) {
    const path = resolve(given);
    const state = await readState(path);
    if (state === undefined) {
      if ((await readdir(path).catch(() => [])).length === 0) return undefined;
      throw new StartupError(
        `${path} is not empty; --report requires a new directory or that of an interrupted import`,
      );
    }
    if (!isSameImport(state) || state.complete) {
      const why = state.complete ? "is complete" : `imported ${state.source} into ${state.target}`;
      throw new StartupError(
        `${path} belongs to import ${state.run}, which ${why}; use a different directory with --report`,
      );
    }
    return { path, state };
  }
  const names = (await readdir(".")).filter((name) => name.startsWith(PREFIX)).sort();
  for (const name of names.reverse()) {
    const state = await readState(resolve(name));
    if (state !== undefined && !state.complete && isSameImport(state)) return { path: resolve(name), state };
  }
  return undefined;
}

async function readState(path: string): Promise<RunState | undefined> {
  try {
    const state: unknown = JSON.parse(await readFile(join(path, STATE_FILE), "utf8"));
    return typeof state === "object" && state !== null && "run" in state ? (state as RunState) : undefined;
  } catch {
    return undefined;
  }
}

function directoryOf(path: string, state: RunState, resumed: boolean): RunDirectory {
  return {
    path,
    state,
    resumed,
    async append(name, lines) {
      if (lines.length === 0) return;
      await using file = await open(join(path, name), "a");
      // A crash may have truncated the last line. Start a new line, so that the next one is not appended to it.
      const isTruncated = (await stat(join(path, name))).size > 0 && !(await endsWithLine(join(path, name)));
      await file.appendFile(
        `${isTruncated ? "\n" : ""}${lines.map((line) => `${JSON.stringify(line)}\n`).join("")}`,
      );
      await file.sync();
    },
    write: (name, text) => writeAtomically(join(path, name), text),
    complete: () => writeAtomically(join(path, STATE_FILE), json({ ...state, complete: true })),
  };
}

/** Reads the lines of a file and skips those that are not JSON; none if the file does not exist. */
export async function* readRunLines(path: string): AsyncGenerator<unknown, void, undefined> {
  if ((await stat(path).catch(() => undefined)) === undefined) return;
  for await (const line of createInterface({
    input: createReadStream(path),
    crlfDelay: Number.POSITIVE_INFINITY,
  })) {
    try {
      yield JSON.parse(line);
    } catch {
      // A crash truncated this line; it was written again after the restart.
    }
  }
}

async function endsWithLine(path: string): Promise<boolean> {
  await using file = await open(path, "r");
  const { size } = await file.stat();
  const { buffer } = await file.read(Buffer.alloc(1), 0, 1, size - 1);
  return buffer[0] === 0x0a;
}

async function writeAtomically(path: string, text: string): Promise<void> {
  const draft = `${path}.new`;
  {
    await using file = await open(draft, "w");
    await file.writeFile(text);
    await file.sync();
  }
  await rename(draft, path);
  await using directory = await open(dirname(path), "r");
  await directory.sync();
}

function json(value: unknown): string {
  return `${JSON.stringify(value, undefined, 2)}\n`;
}
