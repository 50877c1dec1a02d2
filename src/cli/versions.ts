import { existsSync, readFileSync } from "node:fs";
import { readVersion } from "../util/package-version.ts";

/** Lists the versions of the program, of Node and of the client package, one per line. */
export function versions(): string {
  return [
    `memory-service ${readVersion()}`,
    `node ${process.versions.node}`,
    `memory-service-client ${contractVersion()} (memoryservice.v1)`,
  ].join("\n");
}

/** Reads the version of the client package. The package does not export its package.json, so look for it upwards. */
function contractVersion(): string {
  let directory = new URL(".", import.meta.resolve("memory-service-client/memoryservice/v1/memory_pb.js"));
  while (!existsSync(new URL("package.json", directory))) directory = new URL("..", directory);
  const { version } = JSON.parse(readFileSync(new URL("package.json", directory), "utf8")) as {
    readonly version: string;
  };
  return version;
}
