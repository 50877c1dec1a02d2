import { chmod, readFile, writeFile } from "node:fs/promises";
import { homedir } from "node:os";
import { join } from "node:path";

/**
 * Puts PostgreSQL's client programs into `directory`, for a PATH. They come from the tree that
 * scripts/native-postgres.sh created, since `pg_dump` must not be older than the server. They see no other file of the
 * machine than what is redirected to them.
 */
export async function installPostgresTools(directory: string): Promise<void> {
  const script = await readFile(new URL("../../../scripts/native-postgres.sh", import.meta.url), "utf8");
  const major = /readonly MAJOR=(\d+)/.exec(script)?.[1];
  const cache = process.env.XDG_CACHE_HOME || join(homedir(), ".cache");
  const tree = join(cache, "memory-service", `postgres-${major}`, "plain");
  for (const name of ["pg_dump", "pg_restore", "psql"]) {
    const program = `/usr/lib/postgresql/${major}/bin/${name}`;
    const call = `env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 HOME=/tmp chroot --userspec=postgres:postgres '${tree}' ${program} "$@"`;
    const path = join(directory, name);
    await writeFile(path, `#!/bin/sh\nexec ${call}\n`);
    await chmod(path, 0o755);
  }
}
