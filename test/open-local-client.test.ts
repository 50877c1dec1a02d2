import { afterAll, beforeAll, expect, test } from "vitest";
import { readConfig } from "../src/config.ts";
import { StartupError } from "../src/errors.ts";
import { openLocalClient } from "../src/open-local-client.ts";
import { type FakeOllama, startFakeOllama } from "./fakes/ollama/index.ts";
import { silentLogger } from "./support/databases.ts";
import { errorOf } from "./support/service.ts";
import { temporaryDirectory } from "./support/temporary-directory.ts";

let ollama: FakeOllama;
let directory: Awaited<ReturnType<typeof temporaryDirectory>>;

beforeAll(async () => {
  ollama = await startFakeOllama();
  directory = await temporaryDirectory();
});

afterAll(async () => {
  await ollama?.close();
  await directory?.remove();
});

const open = () =>
  openLocalClient(readConfig({ MEMORY_DATA_DIR: directory.path, OLLAMA_API_URL: ollama.url }), silentLogger);

test("serves a directory to this process alone, and lets go of it", async () => {
  const local = await open();
  try {
    await local.client.store({ id: "m1", content: "the cat sat" });
    await expect(open()).rejects.toThrow(StartupError);
    const { reason } = await errorOf(local.client.raw.memories.get({ id: "m2" }));
    expect(reason).toBe("MEMORY_NOT_FOUND");
  } finally {
    await local.close();
  }
  const again = await open();
  try {
    expect((await again.client.search({ query: "cat" })).hits.map(({ memory }) => memory?.id)).toEqual([
      "m1",
    ]);
  } finally {
    await again.close();
  }
}, 60_000);
