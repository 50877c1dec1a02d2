import { rename, symlink, unlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { watchFiles } from "../../src/auth/watched-files.ts";
import { cleanUp, createLogRecorder } from "../server/harness.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";

async function watch() {
  const { path: directory, remove } = await temporaryDirectory();
  cleanUp(remove);
  const path = join(directory, "number");
  /** Replaces the file atomically, since a partial file would be read too. */
  const write = async (text: string) => {
    await writeFile(join(directory, "new"), text);
    await rename(join(directory, "new"), path);
  };
  await write("1");
  const log = createLogRecorder();
  const changes: number[] = [];
  const files = await watchFiles({
    paths: [path],
    what: "the number",
    parse: ([contents]) => {
      const number = Number(contents);
      if (Number.isNaN(number)) throw new Error("it is no number");
      return number;
    },
    onChange: (number) => changes.push(number),
    logger: log.logger,
    intervalMs: 5,
  });
  cleanUp(() => files.close());
  return { directory, path, write, files, log, changes };
}

test("reloads a file only when it has changed", async () => {
  const { write, files, log, changes } = await watch();
  expect(files.current()).toBe(1);
  await write("2");
  await log.find(({ message }) => message === "reloaded the number");
  expect(files.current()).toBe(2);
  await files.check();
  expect(changes).toEqual([2]);
});

test("keeps the previous value for an invalid file and logs it once", async () => {
  const { path, write, files, log, changes } = await watch();
  await write("x");
  const line = await log.find(({ level }) => level === "error");
  expect(line.fields).toMatchObject({ paths: [path], reason: "it is no number" });
  await files.check();
  await files.check();
  expect(files.current()).toBe(1);
  expect(log.lines.filter(({ level }) => level === "error")).toHaveLength(1);

  await unlink(path);
  await log.find(({ fields }) => fields.reason === "the file does not exist");
  expect(files.current()).toBe(1);

  await write("3");
  await log.find(({ level }) => level === "info");
  expect([files.current(), changes]).toEqual([3, [3]]);
});

test("detects a replaced symbolic link", async () => {
  const { directory, path, files, log } = await watch();
  const other = join(directory, "other");
  await writeFile(other, "7");
  await symlink(other, join(directory, "link"));
  await rename(join(directory, "link"), path);
  await log.find(({ level }) => level === "info");
  expect(files.current()).toBe(7);
});

test("fails with one sentence if the first read fails", async () => {
  const options = { what: "the key", parse: () => 1, logger: createLogRecorder().logger };
  await expect(watchFiles({ ...options, paths: ["/nowhere/key"] })).rejects.toThrow(
    "the key in /nowhere/key cannot be used: the file does not exist",
  );
});
