import { mkdtemp, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { createCleanup } from "../../util/cleanup.ts";
import { messageOf } from "../../util/error-message.ts";
import { StartupError } from "../../util/startup-error.ts";
import { copyDatabase, DATABASE_FILE } from "./copy-database.ts";
import { inspectVectors, type VectorInspection } from "./inspect-vectors.ts";
import { type LegacyDatabase, openLegacyDatabase } from "./read-database.ts";
import { readExport } from "./read-export.ts";

/** A temporary copy of the old data, opened for reading. `close` deletes it. */
export interface LegacySource {
  /** Absolute path of the original. */
  readonly path: string;
  readonly kind: "directory" | "export";
  readonly database: LegacyDatabase;
  readonly vectors: VectorInspection;
  /** A scratch database with the results of the inspection, in the tables `memory` and `chunk`. */
  readonly scratch: DatabaseSync;
  close(): Promise<void>;
}

/**
 * Opens a data directory of the old server, or an export of its fork, without writing to it.
 *
 * @throws StartupError if the data cannot be read.
 */
export async function openLegacySource(given: string, signal: AbortSignal): Promise<LegacySource> {
  const path = resolve(given);
  const cleanup = createCleanup();
  try {
    const directory = await mkdtemp(join(tmpdir(), "memory-service-legacy-")).catch((error: unknown) => {
      throw new StartupError(`cannot create a temporary copy: ${messageOf(error)}`);
    });
    cleanup.defer(() => rm(directory, { recursive: true, force: true }));
    const isExport = path.endsWith(".json") && (await stat(path).catch(() => undefined))?.isFile() === true;
    const copy = isExport
      ? await readExport(path, join(directory, DATABASE_FILE), signal)
      : await copyDatabase(path, directory);
    const database = openLegacyDatabase(copy, isExport ? path : join(path, DATABASE_FILE));
    cleanup.defer(async () => database.close());
    const scratch = new DatabaseSync(join(directory, "scratch.db"));
    cleanup.defer(async () => scratch.close());
    scratch.exec("pragma journal_mode = off; pragma synchronous = off");
    const vectors = await inspectVectors(database, isExport ? undefined : path, scratch, signal);
    cleanup.defer(async () => vectors.index?.close());
    return {
      path,
      kind: isExport ? "export" : "directory",
      database,
      vectors,
      scratch,
      close: () => cleanup.run(),
    };
  } catch (error) {
    await cleanup.run();
    throw error;
  }
}
