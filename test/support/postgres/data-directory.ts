import { execFile } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { openEmbeddedDatabase } from "../../../src/storage/database/embedded/embedded-database.ts";
import { migrate, sqlDirectory } from "../../../src/storage/migrations/migrations.ts";
import { silentLogger } from "../silent-logger.ts";
import { keptState } from "./kept-state.ts";

/** Storage for the data of server processes, without memories at first. */
export interface ServerData extends AsyncDisposable {
  /** The settings that make a server use this storage. */
  readonly env: Readonly<Record<string, string>>;
}

/** The data directory of the embedded engine. */
export interface DataDirectory extends ServerData {
  readonly directory: string;
}

/**
 * Creates a data directory of the embedded engine without memories. Copies one that was prepared once, since preparing
 * takes eight seconds. With `empty`, the first server prepares it.
 */
export async function createDataDirectory({ empty = false } = {}): Promise<DataDirectory> {
  const directory = await mkdtemp(join(tmpdir(), "memory-service-e2e-"));
  // The directory has a thousand files, for which Node's own copying takes four times as long.
  if (!empty) await promisify(execFile)("cp", ["-R", `${await preparedDirectory()}/.`, directory]);
  return {
    directory,
    env: { MEMORY_DATA_DIR: directory },
    [Symbol.asyncDispose]: () => rm(directory, { recursive: true, force: true }),
  };
}

async function preparedDirectory(): Promise<string> {
  return await keptState("data", async (directory) => {
    const database = await openEmbeddedDatabase({ directory, logger: silentLogger });
    try {
      await migrate(database, { directory: sqlDirectory, logger: silentLogger });
    } finally {
      await database.close();
    }
  });
}
