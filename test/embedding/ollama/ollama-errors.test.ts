import { describe, expect, it } from "vitest";
import { errorFromStatus } from "../../../src/embedding/ollama/ollama-errors.ts";

const CRASH = 'do embedding request: Post "http://127.0.0.1:41641/v1/embeddings": ';

describe("errorFromStatus", () => {
  it.each([
    [400, "the input length exceeds the context length", "too-long", "no"],
    [400, "input exceeds maximum context length", "too-long", "no"],
    [400, "input length exceeds maximum context length", "too-long", "no"],
    [400, "input after truncation exceeds maximum context length", "too-long", "no"],
    [500, "input (600 tokens) is too large to process. increase the physical batch size", "too-long", "no"],
    [404, 'model "x" not found, try pulling it first', "model-missing", "no"],
    [404, "model '' not found", "model-missing", "no"],
    [400, "invalid model name", "model-missing", "no"],
    [501, "This server does not support embeddings. Start it with `--embeddings`", "model-missing", "no"],
    [500, "this model does not support embeddings", "model-missing", "no"],
    [500, "failed to encode response: json: unsupported value: NaN", "rejected", "no"],
    [400, "embedding contains NaN or Inf values", "rejected", "no"],
    [400, "an unknown message", "rejected", "no"],
    [400, `${CRASH}EOF`, "unavailable", "soon"],
    [400, `${CRASH}dial tcp 127.0.0.1:41641: connect: connection refused`, "unavailable", "soon"],
    [400, "no slots available after 10 retries", "unavailable", "soon"],
    [500, "llama-server process has terminated: signal: killed", "unavailable", "soon"],
    [500, "{}", "unavailable", "soon"],
    [503, "server busy, please try again.  maximum pending requests exceeded", "unavailable", "soon"],
    [499, "request canceled", "unavailable", "soon"],
    [408, "", "unavailable", "soon"],
    [429, "", "unavailable", "soon"],
    [307, "", "unavailable", "no"],
    [403, "", "unavailable", "no"],
  ] as const)("takes %i %j for %s, retry: %s", (status, text, kind, retry) => {
    expect(errorFromStatus(status, text, true)).toMatchObject({ kind, retry });
  });

  it("treats a 404 that is not Ollama's own as a wrong address", () => {
    expect(errorFromStatus(404, "404 page not found", false)).toMatchObject({
      kind: "unavailable",
      retry: "no",
    });
  });

  it("truncates long server messages", () => {
    expect(errorFromStatus(502, "<html>".repeat(10_000), false).message.length).toBeLessThan(300);
  });
});
