import { DomainService } from "memory-service-client/memoryservice/v1/domain_service_pb.js";
import { MemoryService } from "memory-service-client/memoryservice/v1/memory_service_pb.js";
import { ServerService } from "memory-service-client/memoryservice/v1/server_service_pb.js";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { answersIn, blockOf, readPage, runShell, runTypeScript } from "../support/documents.ts";
import { createDataDirectory, type ServerData } from "../support/postgres/data-directory.ts";
import { type ServerProcess, startServerProcess } from "../support/server/server-process.ts";

vi.setConfig({ testTimeout: 120_000 });

const tour = readPage("docs/tour.md");
const printed = blockOf(tour, "text");
const methods = [MemoryService, DomainService, ServerService].flatMap((service) =>
  service.methods.map(({ name, parent }) => ({ name, path: `${parent.name}/${name}` })),
);

let data: ServerData;
let server: ServerProcess;

beforeAll(async () => {
  data = await createDataDirectory();
  server = await startServerProcess({ env: data.env });
});
afterAll(async () => {
  await server?.[Symbol.asyncDispose]();
  await data?.[Symbol.asyncDispose]();
});

test("every tour calls every method", () => {
  const shell = blockOf(tour, "sh");
  expect(methods.filter(({ path }) => !shell.includes(`call ${path} `))).toEqual([]);
  // Both programs print one line for each method; the tests below run them.
  const lines = printed.split("\n");
  expect(methods.filter(({ name }) => !lines.some((line) => line.startsWith(`${name} `)))).toEqual([]);
  for (const language of ["js", "ts"]) {
    const code = blockOf(tour, language);
    expect(methods.filter(({ name }) => !code.includes(`console.log("${name}"`))).toEqual([]);
  }
});

test("the commands of buf curl return what the contract promises", async () => {
  const answers = answersIn(await runShell(blockOf(tour, "sh"), { url: server.url }));
  expect(answers).toMatchObject([
    { engine: "ENGINE_EMBEDDED" },
    { domain: { name: "tour", description: "a tour" }, created: true },
    { memory: { id: "pears", version: "1" }, outcome: "STORE_OUTCOME_CREATED" },
    { outcome: "STORE_OUTCOME_UNCHANGED" },
    { results: [{ success: { memory: { id: "plums" } } }, { success: { memory: { id: "snow" } } }] },
    { memory: { content: "Pears are ripe in autumn" } },
    { memories: [{ id: "pears" }, { id: "plums" }], nextPageToken: expect.any(String) },
    { memory: { source: "the gardener", version: "2" } },
    { hits: [{ memory: { id: "pears" } }, { memory: { id: "plums" } }] },
    { info: { modeUsed: "SEARCH_MODE_TEXT" } },
    { hit: {} },
    { hit: {} },
    { summary: { sent: 2 } },
    { header: { domain: "tour" } },
    { record: { memory: { id: "pears" } }, cursor: expect.any(String) },
    { summary: { records: "1" } },
    { received: "2", created: "1", rejected: "1", rejections: [{ index: "1" }] },
    {},
    { deleted: true },
    { matched: "1" },
    { domain: { description: "fruit" } },
    { domain: { name: "tour", textSearchConfig: "english" } },
    { domains: [{ name: "default" }, { name: "tour" }] },
    { deletedMemories: "3" },
  ]);
});

test("the program with grpc-js prints what the page shows", async () => {
  const code = blockOf(tour, "js");
  expect(await runTypeScript(code, { url: server.url })).toBe(printed);
});

test("the program with the generated client prints what the page shows", async () => {
  expect(await runTypeScript(blockOf(tour, "ts"), { url: server.url })).toBe(printed);
});
