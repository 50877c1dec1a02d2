import { readFile, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { startFakeOllama } from "../../qa/fakes/ollama/index.ts";
import { apiKeysFrom, findApiKey } from "../../src/auth/api-keys.ts";
import { createDataDirectory } from "../support/postgres/data-directory.ts";
import { runProgram, startServerProcess } from "../support/server/server-process.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";

test("create-key prints a key and its line", async () => {
  const args = [
    "create-key",
    "--name",
    "ci",
    "--scope",
    "read:startup",
    "write:acme-*",
    "--expires",
    "2030-01-31",
  ];
  const { code, stdout, stderr } = await runProgram(args);
  expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
  const [, key = "", , , line = ""] = stdout.split("\n");
  const found = findApiKey(apiKeysFrom(line), key);
  expect(found).toMatchObject({ name: "ci", expires: Date.parse("2030-01-31") });
  expect(found?.caller.may("write", "acme-x")).toBe(true);
});

test("create-key appends a line, unless it would make the file invalid", async () => {
  const { path: directory, remove } = await temporaryDirectory();
  const file = join(directory, "keys");
  const makeKey = (name: string) =>
    runProgram(["create-key", "--name", name, "--scope", "read:acme", "--file", file]);
  const names = async () => apiKeysFrom(await readFile(file, "utf8")).map(({ name }) => name);
  await makeKey("first");
  // Some editors omit the final line break.
  await writeFile(file, (await readFile(file, "utf8")).trimEnd());
  expect((await makeKey("second")).code).toBe(0);
  expect(await names()).toEqual(["first", "second"]);
  expect(await makeKey("first")).toMatchObject({
    code: 2,
    stdout: "",
    stderr: expect.stringContaining("line 3 has the name of an earlier line"),
  });
  expect(await names()).toEqual(["first", "second"]);
  await remove();
});

test("a server requires keys, accepts keys added while it runs and rejects removed keys", {
  timeout: 120_000,
}, async () => {
  await using ollama = await startFakeOllama({ installed: [] });
  await using data = await createDataDirectory();
  const { path: directory, remove } = await temporaryDirectory();
  const file = join(directory, "keys");
  const makeKey = async (name: string, scope: string) => {
    const { stdout } = await runProgram(["create-key", "--name", name, "--scope", scope, "--file", file]);
    return stdout.trim();
  };
  const writer = await makeKey("writer", "write:acme");
  expect((await stat(file)).mode & 0o777).toBe(0o600);
  const env = {
    ...data.env,
    OLLAMA_API_URL: ollama.url,
    MEMORY_PULL_MODEL: "false",
    MEMORY_API_KEYS_FILE: file,
  };
  await using server = await startServerProcess({ env });
  const run = (args: readonly string[], key?: string) =>
    runProgram([...args, "--server", server.url], { env: key === undefined ? {} : { MEMORY_API_KEY: key } });
  const store = ["store", "tea is green", "--domain", "acme", "--id", "m1"];
  const get = ["get", "m1", "--domain", "acme"];

  expect(await run(store)).toMatchObject({
    code: 1,
    stderr: "memory-service: the call has no credentials; send the header authorization: Bearer KEY\n",
  });
  expect(await run(store, writer)).toMatchObject({ code: 0, stderr: "" });

  const reader = await makeKey("reader", "read:acme");
  await server.whenLogged(({ msg }) => msg === "reloaded the API keys");
  expect(await run(get, reader)).toMatchObject({ code: 0, stdout: expect.stringContaining("tea is green") });
  expect(await run(store, reader)).toMatchObject({
    code: 1,
    stderr: 'memory-service: the credentials do not allow write in domain "acme"\n',
  });

  const seen = server.logs.length;
  await writeFile(file, `${(await readFile(file, "utf8")).split("\n")[1]}\n`);
  await server.whenLogged(
    (line) => server.logs.indexOf(line) >= seen && line.msg === "reloaded the API keys",
  );
  expect(await run(get, writer)).toMatchObject({
    code: 1,
    stderr: "memory-service: the credentials are not valid\n",
  });
  expect(await run(get, reader)).toMatchObject({ code: 0 });

  await server.stop();
  const logged = JSON.stringify(server.logs) + server.stderr();
  expect(logged).not.toContain("msk_");
  expect(server.logs).toContainEqual(expect.objectContaining({ msg: "call", caller: "key:writer" }));
  await remove();
});
