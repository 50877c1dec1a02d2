import { mkdtemp, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { StartupError } from "../../memory/model/errors.ts";
import { createCleanup } from "../../util/cleanup.ts";
import { copyDatabase, DATABASE_FILE } from "./copy-database.ts";
import { inspectVectors, type VectorInspection } from "./inspect-vectors.ts";
import { type LegacyDatabase, openLegacyDatabase } from "./read-database.ts";
import { readExport } from "./read-export.ts";

/** Old data, opened for reading: a copy that goes away with `close`. */
export interface LegacySource {
  /** As an absolute path. */
  readonly path: string;
  readonly kind: "directory" | "export";
  readonly database: LegacyDatabase;
  readonly vectors: VectorInspection;
  /** What the survey has noted, in the tables `memory` and `chunk`. */
  readonly scratch: DatabaseSync;
  close(): Promise<void>;
}

/**
 * Opens a data directory of the old system, or an export of its fork, without writing to it.
 *
 * @throws StartupError in one sentence for whoever gave the path.
 */
export async function openLegacySource(given: string, signal: AbortSignal): Promise<LegacySource> {
  const path = resolve(given);
  const cleanup = createCleanup();
  try {
    const directory = await mkdtemp(join(tmpdir(), "memory-service-legacy-")).catch((error: unknown) => {
      throw new StartupError(
        `cannot make a copy to read from: ${error instanceof Error ? error.message : error}`,
      );
    });
    cleanup.defer(() => rm(directory, { recursive: true, force: true }));
    const isExport = path.endsWith(".json") && (await stat(path).catch(() => undefined))?.isFile() === true;
    let copy: string;
    if (isExport) {
      copy = join(directory, DATABASE_FILE);
      await readExport(path, copy, signal);
    } else copy = await copyDatabase(path, directory);
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
