import { existsSync, mkdirSync, statSync } from "node:fs";
import { dirname } from "node:path";

/**
 * Makes a directory and those above it, by default with the process's usual permissions. Node's own `recursive` never returns
 * where none can be made, as in /proc.
 *
 * @throws the system's error if one cannot be made.
 */
export function makeDirectory(path: string, mode = 0o777): void {
  if (statSync(path, { throwIfNoEntry: false })?.isDirectory()) return;
  if (!existsSync(dirname(path))) makeDirectory(dirname(path), mode);
  mkdirSync(path, { mode });
}
