import { appendFile, readFile } from "node:fs/promises";
import { apiKeysFrom, createApiKey } from "../auth/api-keys.ts";
import { UsageError } from "./usage-error.ts";

export interface CreateKeyOptions {
  readonly name: string;
  readonly scope: readonly string[];
  readonly expires?: string;
  readonly file?: string;
}

/**
 * Makes an API key and shows it, this once; its line goes to the end of the file, if one is named, else it is shown, too.
 *
 * @throws UsageError
 */
export async function createKey({ name, scope, expires, file }: CreateKeyOptions): Promise<void> {
  const { key, line } = newKey(name, scope, expires);
  if (file !== undefined) {
    await addLine(file, line);
    console.log(key);
    return;
  }
  console.log(`The key, which is shown only now:\n${key}\n\nIts line in MEMORY_API_KEYS_FILE:\n${line}`);
}

/** A server would not start with a file that it cannot understand: then nothing is added. */
async function addLine(file: string, line: string): Promise<void> {
  try {
    const text = await readFile(file, "utf8").catch((error: NodeJS.ErrnoException) => {
      if (error.code === "ENOENT") return "";
      throw error;
    });
    const added = text === "" || text.endsWith("\n") ? `${line}\n` : `\n${line}\n`;
    apiKeysFrom(text + added);
    await appendFile(file, added, { mode: 0o600 });
  } catch (error) {
    throw new UsageError(
      `the key cannot be added to ${file}: ${error instanceof Error ? error.message : error}`,
    );
  }
}

function newKey(name: string, scope: readonly string[], expires: string | undefined) {
  const time = expires === undefined ? undefined : new Date(expires);
  if (time !== undefined && Number.isNaN(time.getTime())) {
    throw new UsageError(`--expires must be a date as 2030-01-31, is "${expires}"`);
  }
  const scopes = scope.flatMap((text) => text.split(" ")).filter((one) => one !== "");
  try {
    return createApiKey({ name, scopes, expires: time });
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error));
  }
}
