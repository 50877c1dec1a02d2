import { createHash } from "node:crypto";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { StartupError } from "../../util/startup-error.ts";

/** One file of the directory, such as `000001_create_catalogue.sql`. */
export interface Migration {
  readonly id: number;
  /** File name without `.sql`. */
  readonly name: string;
  readonly script: string;
  /** SHA-256 of the script, in hex. Line endings do not count, because git may convert them. */
  readonly checksum: string;
  /** False if the first line is `-- no transaction`. Such a file must contain a single statement. */
  readonly inTransaction: boolean;
}

/**
 * Reads all migrations of the directory, ordered by number.
 *
 * @throws StartupError if the directory is unreadable, a file has an invalid name, or a number occurs twice.
 */
export async function readMigrations(directory: URL | string): Promise<Migration[]> {
  const path = typeof directory === "string" ? directory : fileURLToPath(directory);
  const files = await readdir(path).catch((error: unknown) => {
    throw new StartupError(`cannot read the migrations in ${path}`, {
      remedy: "reinstall the program with its directory sql",
      cause: error,
    });
  });
  const migrations: Migration[] = [];
  for (const file of files.filter((name) => name.endsWith(".sql")).sort()) {
    const number = /^(\d{6})_[a-z0-9_]+\.sql$/.exec(file)?.[1];
    if (number === undefined) {
      throw new StartupError(`the file name ${file} is invalid`, {
        remedy: "name migrations like 000001_create_catalogue.sql",
      });
    }
    const script = (await readFile(join(path, file), "utf8")).replaceAll("\r\n", "\n");
    migrations.push({
      id: Number(number),
      name: file.slice(0, -".sql".length),
      script,
      checksum: createHash("sha256").update(script).digest("hex"),
      inTransaction: !/^-- no transaction\b/.test(script),
    });
  }
  const duplicate = migrations.find((migration, i) => migrations[i - 1]?.id === migration.id);
  if (duplicate !== undefined) throw new StartupError(`two migrations have the number ${duplicate.id}`);
  return migrations;
}
