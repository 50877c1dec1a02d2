import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

const script = fileURLToPath(new URL("../../../scripts/native-postgres.sh", import.meta.url));

/** A PostgreSQL server that a test may stop and start as it likes. */
export interface NativePostgres extends AsyncDisposable {
  readonly url: string;
  /** As in a crash: nothing is written out, connections are cut. */
  stopAtOnce(): Promise<void>;
  /** With the data there is, on the same port. Resolves a little after it accepts connections. */
  start(): Promise<void>;
}

/**
 * Starts an empty server with pgvector beside the one of TEST_DATABASE_URL.
 *
 * @param name of the test file: two files with one name would take each other's server away.
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
