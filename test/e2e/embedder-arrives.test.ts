import { Memory_Embedding_State as State } from "memory-service-client/memoryservice/v1/memory_pb.js";
import {
  SearchInfo_DegradedReason as DegradedReason,
  SearchMode,
} from "memory-service-client/memoryservice/v1/memory_service_pb.js";
import { describe, expect, test } from "vitest";
import { startFakeOllama } from "../../qa/fakes/ollama/index.ts";
import { serverEngines } from "../support/server/server-engines.ts";
import { type GrpcClient, openGrpcClient, startServerProcess } from "../support/server/server-process.ts";

const DOMAIN = "clinic";
const CONTENT = "The physician is unwell";
/** The fake embeds these close to the content, without a shared word. Each is used once, as answers are cached. */
const QUESTIONS = ["sick doctor", "ill medic", "disease doctor", "doctor illness"] as const;
/** The server checks a missing Ollama every two seconds, and then has to load the model. */
const NOTICED = { timeout: 20_000, interval: 50 };
/** The default of MEMORY_EMBED_BUDGET_MS, plus a margin for a busy machine. */
const BUDGET_MS = 2_000 + 500;

describe.each(serverEngines())("on $name", ({ create }) => {
  test("memories become READY and searches semantic once Ollama starts, without a restart", {
    timeout: 120_000,
  }, async () => {
    // The port is reserved, but nothing listens on it yet.
    await using ollama = await startFakeOllama();
    await ollama.down();
    await using data = await create();
    await using server = await startServerProcess({ env: { ...data.env, OLLAMA_API_URL: ollama.url } });
    using connection = openGrpcClient(server.url);
    const { client } = connection;

    expect(await store(client, CONTENT)).toBe(State.PENDING);
    expect(await store(client, "Parking costs two euros")).toBe(State.PENDING);
    await expectWordsAlone(client, QUESTIONS[0]);

    await ollama.up();
    await expectReady(client, "physician");
    await expectReady(client, "parking");
    await expectMeaning(client, QUESTIONS[1]);
    expect(await store(client, "The receptionist speaks Danish")).toBe(State.READY);

    await ollama.down();
    await expectWordsAlone(client, QUESTIONS[2]);
    expect(await store(client, "The lift is out of order")).toBe(State.PENDING);

    await ollama.up();
    await expectReady(client, "lift");
    await expectMeaning(client, QUESTIONS[3]);
    expect(server.logs.filter((line) => line.msg === "serving")).toHaveLength(1);
  });
});

async function store(client: GrpcClient, content: string): Promise<State | undefined> {
  const { memory } = await client.store({ content, domain: DOMAIN });
  return memory?.embedding?.state;
}

/** Finds a memory by one of its words, which does not call the embedder. */
async function expectReady(client: GrpcClient, word: string): Promise<void> {
  const state = async () => {
    const { hits } = await client.search({ query: word, domain: DOMAIN, mode: SearchMode.TEXT });
    return hits.map(({ memory }) => memory?.embedding?.state);
  };
  await expect.poll(state, NOTICED).toEqual([State.READY]);
}

async function expectWordsAlone(client: GrpcClient, question: string): Promise<void> {
  const start = performance.now();
  const { hits, info } = await client.search({ query: "physician", domain: DOMAIN });
  expect(performance.now() - start).toBeLessThan(BUDGET_MS);
  expect(hits.map(({ memory }) => memory?.content)).toEqual([CONTENT]);
  expect(info).toMatchObject({
    modeUsed: SearchMode.TEXT,
    degraded: true,
    degradedReason: DegradedReason.EMBEDDER_UNAVAILABLE,
  });
  const unanswered = await client.search({ query: question, domain: DOMAIN });
  expect(unanswered.hits.map(({ memory }) => memory?.content)).toEqual([]);
}

async function expectMeaning(client: GrpcClient, question: string): Promise<void> {
  const { hits, info } = await client.search({ query: question, domain: DOMAIN });
  expect(info).toMatchObject({ modeUsed: SearchMode.HYBRID, degraded: false });
  expect(hits[0]?.memory?.content).toBe(CONTENT);
}
