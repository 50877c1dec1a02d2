import { appendFile, readFile } from "node:fs/promises";
import { apiKeysFrom, createApiKey } from "../auth/api-keys.ts";
import { messageOf } from "../util/error-message.ts";
import { UsageError } from "./usage-error.ts";

export interface CreateKeyOptions {
  readonly name: string;
  readonly scope: readonly string[];
  readonly expires?: string;
  readonly file?: string;
}

/**
 * Creates an API key and prints it. This is the only time that the key is shown. Appends its line to `file`, or prints
 * the line if no file is given.
 *
 * @throws UsageError
 */
export async function createKey({ name, scope, expires, file }: CreateKeyOptions): Promise<void> {
  const { key, line } = newKey(name, scope, expires);
  if (file !== undefined) {
    await appendLine(file, line);
    console.log(key);
    return;
  }
  console.log(`API key (it is not shown again):\n${key}\n\nLine for MEMORY_API_KEYS_FILE:\n${line}`);
}

/** Appends a line to a file of keys, unless the result would be a file with which the server does not start. */
async function appendLine(file: string, line: string): Promise<void> {
  try {
    const text = await readFile(file, "utf8").catch((error: NodeJS.ErrnoException) => {
      if (error.code === "ENOENT") return "";
      throw error;
    });
    const added = text === "" || text.endsWith("\n") ? `${line}\n` : `\n${line}\n`;
    apiKeysFrom(text + added);
    await appendFile(file, added, { mode: 0o600 });
  } catch (error) {
    throw new UsageError(`cannot add the key to ${file}: ${messageOf(error)}`);
  }
}

function newKey(name: string, scope: readonly string[], expires: string | undefined) {
  const time = expires === undefined ? undefined : new Date(expires);
  if (time !== undefined && Number.isNaN(time.getTime())) {
    throw new UsageError(`--expires must be a date such as 2030-01-31, got "${expires}"`);
  }
  const scopes = scope.flatMap((text) => text.split(" ")).filter((one) => one !== "");
  try {
    return createApiKey({ name, scopes, expires: time });
  } catch (error) {
    throw new UsageError(messageOf(error));
  }
}
