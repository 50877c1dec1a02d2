import { readFileSync } from "node:fs";
import { join } from "node:path";
import { missingSource, readIgnoreRules } from "./build-context.ts";
import { parseDockerfile, type Stage } from "./parse-dockerfile.ts";

/** The only base image that this check can replace. */
const NODE_IMAGE = /^node:(\d+\.\d+\.\d+)-([a-z]+)-slim$/;

/** The versions in a base image. */
export interface NodeImage {
  readonly nodeVersion: string;
  /** Code name of the Debian release. */
  readonly debian: string;
}

/**
 * Parses the tag of a base image.
 *
 * @throws Error if it is not a slim image of Node on Debian with a full version.
 */
export function readNodeImage(image: string): NodeImage {
  const [, nodeVersion, debian] = NODE_IMAGE.exec(image) ?? [];
  if (nodeVersion === undefined || debian === undefined) {
    throw new Error(`base image ${image} is not node:VERSION-DEBIAN-slim with a full version`);
  }
  return { nodeVersion, debian };
}

/** Parses the Dockerfile. Returns its stages and all problems that parsing reveals. */
export function checkSources(root: string): { stages: Stage[]; problems: string[] } {
  const stages = parseDockerfile(readFileSync(join(root, "Dockerfile"), "utf8"));
  const isSent = readIgnoreRules(readFileSync(join(root, ".dockerignore"), "utf8"));
  const problems: string[] = [];

  const pinned = pinnedNodeVersions(root);
  for (const { image, line } of stages) {
    const { nodeVersion } = readNodeImage(image);
    for (const [name, version] of pinned) {
      if (version !== nodeVersion) {
        problems.push(`Dockerfile line ${line}: ${image}, but tools/node-runtime pins ${name} ${version}`);
      }
    }
  }
  for (const [index, stage] of stages.entries()) {
    for (const instruction of stage.instructions) {
      if (instruction.kind !== "COPY") continue;
      const { from, line } = instruction;
      if (from !== undefined) {
        if (!stages.slice(0, index).some(({ name }) => name === from)) {
          problems.push(`Dockerfile line ${line}: no earlier stage is named ${from}`);
        }
        continue;
      }
      for (const source of instruction.sources) {
        const problem = missingSource(root, isSent, source);
        if (problem !== undefined) problems.push(`Dockerfile line ${line}: COPY: ${problem}`);
      }
    }
  }
  return { stages, problems };
}

function pinnedNodeVersions(root: string): [string, string][] {
  const path = join(root, "tools/node-runtime/package.json");
  const { optionalDependencies = {} } = JSON.parse(readFileSync(path, "utf8")) as {
    optionalDependencies?: Record<string, string>;
  };
  return Object.entries(optionalDependencies);
}
