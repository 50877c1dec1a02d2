import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

const script = fileURLToPath(new URL("../../../scripts/native-postgres.sh", import.meta.url));

/** A PostgreSQL server that a test can stop and start. */
export interface NativePostgres extends AsyncDisposable {
  readonly url: string;
  /** Stops the server as in a crash: it flushes nothing and cuts its connections. */
  stopAtOnce(): Promise<void>;
  /** Restarts the server with its data on the same port. Resolves soon after it accepts connections. */
  start(): Promise<void>;
}

/**
 * Starts an empty server with pgvector next to the one of TEST_DATABASE_URL.
 *
 * @param name must differ between test files: two files with one name would replace each other's server.
 */
export async function startNativePostgres(name: string): Promise<NativePostgres> {
  const run = async (...args: string[]) => {
    const { stdout } = await promisify(execFile)(script, [...args, "--name", `e2e-${name}`]);
    return stdout.trim();
  };
  return {
    url: await run("start"),
    stopAtOnce: async () => void (await run("stop", "--immediate")),
    start: async () => void (await run("restart")),
    [Symbol.asyncDispose]: async () => void (await run("remove")),
  };
}
