import { existsSync, mkdirSync, statSync } from "node:fs";
import { dirname } from "node:path";

/**
 * Creates a directory and its parents. Permissions default to those of the process's umask. Node's `recursive` option
 * never returns where no directory can be created, for example in /proc.
 *
 * @throws the error of the file system.
 */
export function makeDirectory(path: string, mode = 0o777): void {
  if (statSync(path, { throwIfNoEntry: false })?.isDirectory()) return;
  if (!existsSync(dirname(path))) makeDirectory(dirname(path), mode);
  mkdirSync(path, { mode });
}
