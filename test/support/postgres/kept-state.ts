import { createHash, randomUUID } from "node:crypto";
import { access, mkdir, readFile, rename, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { sqlDirectory } from "../../../src/storage/migrations/migrations.ts";
import { readMigrations } from "../../../src/storage/migrations/read-migrations.ts";

/**
 * Returns the path of a file or directory that takes long to create. Calls `make` if it does not exist, and keeps the
 * result for all tests and later runs, until the migrations or the engine's version change.
 */
export async function keptState(name: string, make: (path: string) => Promise<void>): Promise<string> {
  const directory = join(tmpdir(), "memory-service-test");
  const path = join(directory, `${name}-${await stateHash()}`);
  if (await isThere(path)) return path;
  await mkdir(directory, { recursive: true });
  const unfinished = `${path}.${randomUUID()}`;
  await make(unfinished);
  try {
    // Renamed when complete, because other test workers look for it concurrently and one may have been faster.
    await rename(unfinished, path);
  } catch (error) {
    await rm(unfinished, { recursive: true, force: true });
    if (!(await isThere(path))) throw error;
  }
  return path;
}

/** Returns a key that changes with the migrations and the engine's version. */
export async function stateHash(): Promise<string> {
  const hash = createHash("sha256");
  for (const { name, checksum } of await readMigrations(sqlDirectory)) hash.update(`${name} ${checksum}\n`);
  const manifest = JSON.parse(await readFile(new URL("../../../package.json", import.meta.url), "utf8"));
  for (const [name, version] of Object.entries(manifest.dependencies)) {
    if (name.startsWith("@electric-sql/")) hash.update(`${name} ${version}\n`);
  }
  return hash.digest("hex").slice(0, 16);
}

async function isThere(path: string): Promise<boolean> {
  return await access(path).then(
    () => true,
    () => false,
  );
}
