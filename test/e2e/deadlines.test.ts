import { Memory_Embedding_State as State } from "memory-service-client/memoryservice/v1/memory_pb.js";
import {
  SearchInfo_DegradedReason as DegradedReason,
  SearchMode,
} from "memory-service-client/memoryservice/v1/memory_service_pb.js";
import { describe, expect, test } from "vitest";
import { startFakeOllama } from "../../qa/fakes/ollama/index.ts";
import { serverEngines } from "../support/server/server-engines.ts";
import { openGrpcClient, startServerProcess } from "../support/server/server-process.ts";

const DOMAIN = "deadlines";
/** Far below the two seconds that the server waits for the embedder by default. */
const DEADLINE_MS = 500;

describe.each(serverEngines())("on $name", ({ create }) => {
  test("a call with a short deadline is answered in time although the embedder hangs", {
    timeout: 120_000,
  }, async () => {
    await using ollama = await startFakeOllama();
    await using data = await create();
    await using server = await startServerProcess({ env: { ...data.env, OLLAMA_API_URL: ollama.url } });
    using connection = openGrpcClient(server.url);
    const { client } = connection;
    await client.store({ content: "The harbour is closed at night", domain: DOMAIN });
    await client.search({ query: "anything", domain: DOMAIN });

    ollama.faults.enqueue({ kind: "hang", phase: "answer", match: { path: "/api/embed" }, times: Infinity });
    for (const round of ["alpha", "beta", "gamma"]) {
      const stored = await client.store(
        { content: `Pier ${round} is under repair`, domain: DOMAIN },
        { timeoutMs: DEADLINE_MS },
      );
      expect(stored.memory?.embedding?.state).toBe(State.PENDING);
      const found = await client.search(
        { query: `harbour at ${"!".repeat(round.length)}`, domain: DOMAIN },
        { timeoutMs: DEADLINE_MS },
      );
      expect(found.hits).toHaveLength(1);
      expect(found.info).toMatchObject({
        modeUsed: SearchMode.TEXT,
        degraded: true,
        degradedReason: DegradedReason.EMBEDDER_UNAVAILABLE,
      });
    }
  });
});
