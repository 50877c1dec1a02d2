import { expect, test } from "vitest";
import { Health } from "../../src/generated/grpc/health/v1/health_pb.ts";
import { send, startTestListener } from "./harness.ts";

const start = (bytes: number) =>
  startTestListener(({ service }) => {
    service(Health, { list: () => ({ statuses: { ["x".repeat(bytes)]: { status: 1 } } }) });
  });

test.each([
  ["gzip", 5_000, undefined],
  ["gzip", 50_000, "gzip"],
  ["br", 50_000, "br"],
  ["zstd", 50_000, undefined],
])("a client that accepts %s gets %i bytes as %s", async (accepted, bytes, encoding) => {
  const listener = await start(bytes);
  const answer = await send(`${listener.url}/grpc.health.v1.Health/List`, {
    headers: { "content-type": "application/json", "accept-encoding": accepted },
    body: "{}",
  });
  expect(answer.status).toBe(200);
  expect(answer.headers["content-encoding"]).toBe(encoding);
});
