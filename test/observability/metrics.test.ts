import { createClient } from "@connectrpc/connect";
import { afterEach, describe, expect, test, vi } from "vitest";
import type { OllamaEmbedder } from "../../src/embedding/ollama/ollama-embedder.ts";
import { Health } from "../../src/generated/grpc/health/v1/health_pb.ts";
import { EmbedError } from "../../src/memory/model/embedder.ts";
import { ServiceError } from "../../src/memory/model/errors.ts";
import { createMetrics, type Metrics } from "../../src/observability/metrics.ts";
import { noteCall } from "../../src/rpc/call-log.ts";
import { createErrorInterceptor } from "../../src/rpc/interceptors/errors.ts";
import { grpcTransport, send, sendJson, startTestListener, type TestListener } from "../server/harness.ts";
import { silentLogger } from "../support/silent-logger.ts";

type Sources = Parameters<typeof createMetrics>[0];

function metricsWith(sources: Partial<Sources> = {}): Metrics {
  return createMetrics({
    version: "1.2.3",
    engine: "embedded",
    connections: () => ({ total: 3, idle: 1, waiting: 2 }),
    countPending: async () => new Map(),
    logger: silentLogger,
    ...sources,
  });
}

/** A listener with a service that fails on request, and its metrics. */
async function start(metrics = metricsWith()): Promise<TestListener & { metrics: Metrics }> {
  const listener = await startTestListener(
    ({ service }) =>
      service(Health, {
        check(request) {
          if (request.service !== "") throw new ServiceError("MEMORY_NOT_FOUND", "not there");
          return {};
        },
        async *watch(request, context) {
          for (let sent = 1; sent <= 3; sent++) {
            noteCall(context, { hits: sent });
            yield {};
          }
          if (request.service !== "") throw new ServiceError("CONFLICT", "again");
        },
      }),
    {
      interceptors: [createErrorInterceptor({ logger: silentLogger })],
      onCall: metrics.countCall,
      metrics: metrics.report,
    },
  );
  return { ...listener, metrics };
}

/** Returns the samples whose lines start with this text. */
async function samples(metrics: Metrics, start: string): Promise<string[]> {
  const { text } = await metrics.report();
  return text.split("\n").filter((line) => line.startsWith(start));
}

const calls = (method: string, code: string, count: number) =>
  `rpc_server_calls_total{rpc_method="${method}",rpc_response_status_code="${code}"} ${count}`;

afterEach(() => vi.useRealTimers());

describe("calls", () => {
  test("are counted by method and code, including calls that fail before a handler", async () => {
    const { url, metrics } = await start();
    const check = `${url}/grpc.health.v1.Health/Check`;
    await sendJson(check, "{}");
    await sendJson(check, "{}");
    await sendJson(check, '{"service":"x"}');
    await sendJson(check, '{"mistyped":1}');
    await sendJson(check, "{}", { host: "evil.example" });
    const found = await samples(metrics, "rpc_server_calls_total");
    expect(found).toEqual([
      calls("grpc.health.v1.Health/Check", "ok", 2),
      calls("grpc.health.v1.Health/Check", "not_found", 1),
      calls("grpc.health.v1.Health/Check", "invalid_argument", 1),
      calls("grpc.health.v1.Health/Check", "permission_denied", 1),
    ]);
  });

  test("have a latency in seconds, in buckets from 1 ms to 30 s", async () => {
    const metrics = metricsWith();
    metrics.countCall({ method: "a.B/C", outcome: { code: undefined }, seconds: 0.002, hits: undefined });
    const buckets = await samples(metrics, "rpc_server_call_duration_seconds_bucket");
    expect(buckets.map((line) => /le="([^"]+)"/.exec(line)?.[1]).at(0)).toBe("0.001");
    expect(buckets.map((line) => /le="([^"]+)"/.exec(line)?.[1]).at(-2)).toBe("30");
    expect(buckets.map((line) => line.at(-1)).slice(0, 3)).toEqual(["0", "1", "1"]);
  });

  test("count the hits of a stream, whether it ends or fails", async () => {
    const { url, metrics } = await start();
    const health = createClient(Health, grpcTransport(url));
    const read = async (service: string) => {
      for await (const _ of health.watch({ service }));
    };
    await read("");
    await expect(read("x")).rejects.toThrow("again");
    await expect
      .poll(() => samples(metrics, "memory_service_hits_total{"))
      .toEqual(['memory_service_hits_total{rpc_method="grpc.health.v1.Health/Watch"} 6']);
    expect(await samples(metrics, "rpc_server_calls_total")).toEqual([
      calls("grpc.health.v1.Health/Watch", "ok", 1),
      calls("grpc.health.v1.Health/Watch", "aborted", 1),
    ]);
  });

  test("to methods that do not exist share one label", async () => {
    const { url, metrics } = await start();
    for (let n = 0; n < 20; n++) await sendJson(`${url}/invented.Service${n}/Method`, "{}");
    expect(await samples(metrics, "rpc_server_calls_total")).toEqual([calls("unknown", "unimplemented", 20)]);
  });

  test("exclude probes and scrapes", async () => {
    const { url, metrics } = await start();
    for (const path of ["/livez", "/readyz", "/metrics", "/nothing"]) await send(`${url}${path}`);
    expect(await samples(metrics, "rpc_server_calls_total")).toEqual([]);
  });
});

describe("/metrics", () => {
  test("responds in the Prometheus text format", async () => {
    const { url } = await start();
    const answer = await send(`${url}/metrics`);
    expect(answer.status).toBe(200);
    expect(answer.headers["content-type"]).toBe("text/plain; version=0.0.4; charset=utf-8");
    // prom-client writes Nan for an empty metric, and Prometheus accepts any case.
    const samplePattern = /^[a-zA-Z_:][\w:]*(\{(\w+="[^"\n]*",?)*\})? -?([\d.e+-]+|Nan|\+Inf)$/;
    const wrong = answer.text
      .split("\n")
      .filter((line) => line !== "" && !line.startsWith("# ") && !samplePattern.test(line));
    expect(wrong).toEqual([]);
    expect(answer.text).toContain('memory_service_info{version="1.2.3",engine="embedded"} 1');
    expect(answer.text).toContain("process_resident_memory_bytes ");
  });

  test("rejects other hosts like every path", async () => {
    const { url } = await start();
    const answer = await send(`${url}/metrics`, { headers: { host: "evil.example" } });
    expect(answer.status).toBe(403);
    expect(answer.text).not.toContain("process_");
  });

  test("does not exist if metrics are disabled", async () => {
    const { url } = await startTestListener(() => {});
    expect((await send(`${url}/metrics`)).status).toBe(404);
  });

  test("is separate for two servers in one process", async () => {
    const [one, other] = [metricsWith(), metricsWith()];
    one.countCall({ method: "a.B/C", outcome: { code: undefined }, seconds: 1, hits: 1 });
    expect(await samples(one, "rpc_server_calls_total")).toHaveLength(1);
    expect(await samples(other, "rpc_server_calls_total")).toEqual([]);
  });

  test("reports the use of database connections", async () => {
    expect(await samples(metricsWith(), "memory_service_database")).toEqual([
      "memory_service_database_connections 3",
      "memory_service_database_idle_connections 1",
      "memory_service_database_waiting 2",
    ]);
  });
});

describe("pending memories", () => {
  test("are reported by domain, with one query for all scrapes within five seconds", async () => {
    vi.useFakeTimers({ toFake: ["performance"] });
    let asked = 0;
    const metrics = metricsWith({
      countPending: async () => {
        asked++;
        return asked === 1 ? new Map([["work", 2]]).set("gone", 1) : new Map([["work", 1]]);
      },
    });
    const pending = () => samples(metrics, "memory_service_pending_memories{");
    const both = [
      'memory_service_pending_memories{domain="work"} 2',
      'memory_service_pending_memories{domain="gone"} 1',
    ];
    expect(await Promise.all([pending(), pending()])).toEqual([both, both]);
    vi.advanceTimersByTime(4_999);
    expect(await pending()).toEqual(both);
    expect(asked).toBe(1);
    vi.advanceTimersByTime(1);
    expect(await pending()).toEqual(['memory_service_pending_memories{domain="work"} 1']);
  });

  test("are omitted, without other metrics, while the database is unavailable", async () => {
    const metrics = metricsWith({
      countPending: (signal) =>
        new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason))),
    });
    const start = performance.now();
    const { text } = await metrics.report();
    expect(performance.now() - start).toBeLessThan(2_000);
    expect(text).not.toContain("memory_service_pending_memories{");
    expect(text).toContain("process_resident_memory_bytes ");
  });
});

describe("the embedder", () => {
  const fake = {
    embed: async (texts: readonly string[]) => {
      if (texts[0] === "bad") throw new EmbedError("rejected", "no");
      return texts.map(() => new Float32Array(1));
    },
    status: () => ({ available: true, reason: "" }),
    stats: () => ({ circuit: "half-open", waitingTexts: 7, cachedQueries: 5 }),
  } as unknown as OllamaEmbedder;

  test("is counted by role: calls, texts, failures by kind, latency", async () => {
    const metrics = metricsWith();
    const embedder = metrics.countEmbedder(fake);
    await embedder.embed(["a", "b"], "document");
    await embedder.embed(["q"], "query");
    await expect(embedder.embed(["bad"], "query")).rejects.toThrow("no");
    expect(await samples(metrics, "memory_service_embed_calls_total")).toEqual([
      'memory_service_embed_calls_total{role="document"} 1',
      'memory_service_embed_calls_total{role="query"} 2',
    ]);
    expect(await samples(metrics, "memory_service_embed_texts_total")).toEqual([
      'memory_service_embed_texts_total{role="document"} 2',
      'memory_service_embed_texts_total{role="query"} 2',
    ]);
    expect(await samples(metrics, "memory_service_embed_failures_total")).toEqual([
      'memory_service_embed_failures_total{role="query",kind="rejected"} 1',
    ]);
    expect(await samples(metrics, "memory_service_embed_duration_seconds_count")).toHaveLength(2);
  });

  test("reports its circuit, its queue and its cache", async () => {
    const metrics = metricsWith();
    metrics.countEmbedder(fake);
    expect(await samples(metrics, "memory_service_embedder_")).toEqual([
      "memory_service_embedder_available 1",
      'memory_service_embedder_circuit{state="closed"} 0',
      'memory_service_embedder_circuit{state="open"} 0',
      'memory_service_embedder_circuit{state="half-open"} 1',
      "memory_service_embedder_waiting_texts 7",
      "memory_service_embedder_cached_queries 5",
    ]);
  });
});
