import { existsSync, readFileSync } from "node:fs";
import { readVersion } from "../util/package-version.ts";

/** A line each for the program, Node and the package of the contract. */
export function versions(): string {
  return [
    `memory-service ${readVersion()}`,
    `node ${process.versions.node}`,
    `memory-service-client ${contractVersion()} (memoryservice.v1)`,
  ].join("\n");
}

/** The version of the package that the contract comes from. It exports no package.json, so that is searched upwards. */
function contractVersion(): string {
  let directory = new URL(".", import.meta.resolve("memory-service-client/memoryservice/v1/memory_pb.js"));
  while (!existsSync(new URL("package.json", directory))) directory = new URL("..", directory);
  const { version } = JSON.parse(readFileSync(new URL("package.json", directory), "utf8")) as {
    readonly version: string;
  };
  return version;
}
