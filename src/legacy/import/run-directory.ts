import { randomBytes } from "node:crypto";
import { createReadStream } from "node:fs";
import { open, readdir, readFile, rename, stat } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { createInterface } from "node:readline/promises";
import { StartupError } from "../../memory/model/errors.ts";
import { makeDirectory } from "../../util/make-directory.ts";

/** What a run is, so that it can go on after an interruption, and be rolled back. */
export interface RunState {
  readonly run: string;
  readonly source: string;
  readonly target: string;
  readonly domain: string;
  readonly startTime: string;
  readonly complete: boolean;
}

/** The files of a run. */
export interface RunDirectory {
  readonly path: string;
  readonly state: RunState;
  /** Whether it goes on with a run that was interrupted. */
  readonly resumed: boolean;
  /** Adds lines to a file, and has them on the disk when it resolves. */
  append(file: RunFile, lines: readonly unknown[]): Promise<void>;
  /** Writes a whole file, or nothing. */
  write(file: string, text: string): Promise<void>;
  /** Marks the run as complete. */
  complete(): Promise<void>;
}

/** brought: ids with their versions, before they are stored; replaced: records of what was there before. */
export type RunFile = "brought.jsonl" | "replaced.jsonl" | "details.jsonl";

const STATE_FILE = "run.json";
const PREFIX = "import-legacy-";

/** As `20261123T014500Z-3f9a`: sorts by time, and no two are equal. */
function newRunId(): string {
  const time = new Date().toISOString().replace(/\.\d+|[-:]/g, "");
  return `${time}-${randomBytes(2).toString("hex")}`;
}

/**
 * Opens the directory of a run: one that was interrupted while it imported the same source into the same target, else
 * a new one.
 *
 * @param given as the user names it; undefined: `import-legacy-RUN` where the user is.
 * @throws StartupError if it cannot be written, or belongs to something else.
 */
export async function openRunDirectory(
  given: string | undefined,
  what: Pick<RunState, "source" | "target" | "domain">,
): Promise<RunDirectory> {
  try {
    const found = await findInterrupted(given, what);
    if (found !== undefined) return directoryOf(found.path, found.state, true);
    const state = { run: newRunId(), ...what, startTime: new Date().toISOString(), complete: false };
    const path = resolve(given ?? `${PREFIX}${state.run}`);
    makeDirectory(path);
    await writeWhole(join(path, STATE_FILE), json(state));
    return directoryOf(path, state, false);
  } catch (error) {
    if (error instanceof StartupError) throw error;
    throw new StartupError(
      `cannot write the report of the import: ${error instanceof Error ? error.message : error}; name another place with --report`,
      { cause: error },
    );
  }
}

/** The directory of a run that is there; undefined: it is not. */
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
  what: Pick<RunState, "source" | "target" | "domain">,
): Promise<{ path: string; state: RunState } | undefined> {
  const isSame = (state: RunState) =>
    state.source === what.source && state.target === what.target && state.domain === what.domain;
  if (given !== undefined) {
    const path = resolve(given);
    const state = await readState(path);
    if (state === undefined) {
      if ((await readdir(path).catch(() => [])).length === 0) return undefined;
      throw new StartupError(
        `${path} is not empty: --report takes a new directory, or that of an interrupted import`,
      );
    }
    if (!isSame(state) || state.complete) {
      const why = state.complete ? "is complete" : `was of ${state.source} into ${state.target}`;
      throw new StartupError(
        `${path} belongs to import ${state.run}, which ${why}: name another place with --report`,
      );
    }
    return { path, state };
  }
  const names = (await readdir(".")).filter((name) => name.startsWith(PREFIX)).sort();
  for (const name of names.reverse()) {
    const state = await readState(resolve(name));
    if (state !== undefined && !state.complete && isSame(state)) return { path: resolve(name), state };
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
      // A crash may have cut the last line: the next must not become a part of it.
      const torn = (await stat(join(path, name))).size > 0 && !(await endsWithLine(join(path, name)));
      await file.appendFile(
        `${torn ? "\n" : ""}${lines.map((line) => `${JSON.stringify(line)}\n`).join("")}`,
      );
      await file.sync();
    },
    write: (name, text) => writeWhole(join(path, name), text),
    complete: () => writeWhole(join(path, STATE_FILE), json({ ...state, complete: true })),
  };
}

/** The lines of a file that can be read; none if there is no such file. */
export async function* readRunLines(path: string): AsyncGenerator<unknown, void, undefined> {
  if ((await stat(path).catch(() => undefined)) === undefined) return;
  for await (const line of createInterface({
    input: createReadStream(path),
    crlfDelay: Number.POSITIVE_INFINITY,
  })) {
    try {
      yield JSON.parse(line);
    } catch {
      // Cut by a crash, and written once more after it.
    }
  }
}

async function endsWithLine(path: string): Promise<boolean> {
  await using file = await open(path, "r");
  const { size } = await file.stat();
  const { buffer } = await file.read(Buffer.alloc(1), 0, 1, size - 1);
  return buffer[0] === 0x0a;
}

async function writeWhole(path: string, text: string): Promise<void> {
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
