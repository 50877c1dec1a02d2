import { afterAll, beforeAll, expect, test } from "vitest";
import { type FakeOllama, startFakeOllama } from "../../qa/fakes/ollama/index.ts";
import { readConfig } from "../../src/app/config.ts";
import { openLocalClient } from "../../src/app/open-local-client.ts";
import { StartupError } from "../../src/util/startup-error.ts";
import { errorOf } from "../support/in-process/service.ts";
import { createDataDirectory, type DataDirectory } from "../support/postgres/data-directory.ts";
import { silentLogger } from "../support/silent-logger.ts";

let ollama: FakeOllama;
let data: DataDirectory;

beforeAll(async () => {
  ollama = await startFakeOllama();
  data = await createDataDirectory();
});

afterAll(async () => {
  await ollama?.close();
  await data?.[Symbol.asyncDispose]();
});

const open = () => openLocalClient(readConfig({ ...data.env, OLLAMA_API_URL: ollama.url }), silentLogger);

test("serves a directory within this process and releases it on close", async () => {
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
