import { writeSync } from "node:fs";
import { appendFile, readFile } from "node:fs/promises";
import { join } from "node:path";
import { beforeEach, describe, expect, test } from "vitest";
import { openAuditFile } from "../../src/auth/audit-file.ts";
import { cleanUp, createLogRecorder } from "../server/harness.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";

let path: string;
beforeEach(async () => {
  const directory = await temporaryDirectory();
  cleanUp(() => directory.remove());
  path = join(directory.path, "audit.log");
});

const contents = async () => await readFile(path, "utf8");

/** A file on a disk with space for this many more bytes. */
function openOnDisk(room: number) {
  const disk = { room, now: 0 };
  const { logger, lines } = createLogRecorder();
  const file = openAuditFile(path, logger, {
    writeBytes(descriptor, bytes) {
      if (disk.room === 0) throw new Error("ENOSPC: no space left on device, write");
      const written = writeSync(descriptor, bytes.subarray(0, disk.room));
      disk.room -= written;
      return written;
    },
    now: () => disk.now,
  });
  return { disk, file, lines };
}

const full = "cannot write to the audit file";
const lost = "dropped audit lines";

describe("on a full disk", () => {
  test("lines are buffered until there is space, and none is torn", async () => {
    const { disk, file, lines } = openOnDisk(10);
    for (const line of ["line 1\n", "line 2\n", "line 3\n"]) file.write(line);
    expect(await contents()).toBe("line 1\nlin");
    disk.room = 1_000;
    file.write("line 4\n");
    expect(await contents()).toBe("line 1\nline 2\nline 3\nline 4\n");
    expect(lines).toMatchObject([
      { level: "error", message: full, fields: { path, buffered: 1, dropped: 0 } },
    ]);
    file.close();
  });

  test("the buffer is bounded, and dropped lines are counted once there is space again", async () => {
    const { disk, file, lines } = openOnDisk(0);
    const line = `${"x".repeat(1024 * 1024 - 1)}\n`;
    for (let n = 0; n < 10; n++) file.write(line);
    disk.room = Number.MAX_SAFE_INTEGER;
    file.write("last\n");
    expect(await contents()).toBe(`${line.repeat(4)}last\n`);
    expect(lines).toMatchObject([
      { message: full },
      { level: "error", message: lost, fields: { dropped: 6 } },
    ]);
    file.write("more\n");
    expect(lines).toHaveLength(2);
    file.close();
  });

  test("is logged every 30 seconds, not for each line", () => {
    const { disk, file, lines } = openOnDisk(0);
    for (const now of [0, 1, 29_999, 30_000, 59_999, 60_000]) {
      disk.now = now;
      file.write("line\n");
    }
    expect(lines.map(({ fields }) => fields.buffered)).toEqual([1, 4, 6]);
    file.close();
  });

  test("lines still buffered on close are dropped, which is logged", () => {
    const { file, lines } = openOnDisk(3);
    for (const line of ["line 1\n", "line 2\n"]) file.write(line);
    file.close();
    expect(lines.at(-1)).toMatchObject({ message: lost, fields: { path, dropped: 2 } });
  });
});

test("starts a new line after an incomplete one", async () => {
  await appendFile(path, "whole\nhal");
  for (const line of ["one\n", "two\n"]) {
    const { file } = openOnDisk(1_000);
    file.write(line);
    file.close();
  }
  expect(await contents()).toBe("whole\nhal\none\ntwo\n");
});
