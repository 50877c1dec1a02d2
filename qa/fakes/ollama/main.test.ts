import { spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { expect, it, onTestFinished } from "vitest";
import { startForTest } from "./testing.ts";

const main = fileURLToPath(new URL("main.ts", import.meta.url));

function start(env: Record<string, string>) {
  const child = spawn(process.execPath, [main], {
    env: { ...process.env, FAKE_OLLAMA_PORT: "0", ...env },
    stdio: ["ignore", "pipe", "pipe"],
  });
  onTestFinished(() => void child.kill("SIGKILL"));
  return child;
}

it.each(["SIGINT", "SIGTERM"] as const)(
  "runs as a process, prints its address and stops on %s",
  async (signal) => {
    const child = start({ FAKE_OLLAMA_MODELS: "tiny, some/model" });
    const [line] = await once(child.stdout, "data");
    expect(String(line)).toMatch(/^http:\/\/127\.0\.0\.1:\d+ is a fake Ollama.*\n$/);
    const url = String(line).split(" ")[0];
    const { models } = (await (await fetch(`${url}/api/tags`)).json()) as { models: { name: string }[] };
    expect(models.map(({ name }) => name)).toEqual(["tiny:latest", "some/model:latest"]);
    child.kill(signal);
    expect(await once(child, "exit")).toEqual([0, null]);
  },
);

it("refuses a port that is not a number", async () => {
  const child = start({ FAKE_OLLAMA_PORT: "here" });
  const [[message], [code]] = await Promise.all([once(child.stderr, "data"), once(child, "exit")]);
  expect([String(message), code]).toEqual(['FAKE_OLLAMA_PORT must be a port number, is "here"\n', 1]);
});

it("reports a port that is taken", async () => {
  const fake = await startForTest();
  const child = start({ FAKE_OLLAMA_PORT: new URL(fake.url).port });
  const [[message], [code]] = await Promise.all([once(child.stderr, "data"), once(child, "exit")]);
  expect(String(message)).toMatch(/^port \d+ is taken, perhaps by a real Ollama/);
  expect(code).toBe(1);
});
