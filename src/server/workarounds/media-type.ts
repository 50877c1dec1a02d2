import { createAsyncIterable, type UniversalServerResponse } from "@connectrpc/connect/protocol";

const explanation =
  "send a content type: application/json with JSON, application/proto with protobuf, or one of gRPC or gRPC-Web\n";

/** Adds an explanation to the answer if connect rejects the content type, which it does with status 415 and an empty body. */
export function explainMediaType(answer: UniversalServerResponse): UniversalServerResponse {
  if (answer.status !== 415) return answer;
  const header = new Headers(answer.header);
  header.set("content-type", "text/plain; charset=utf-8");
  return { ...answer, header, body: createAsyncIterable([new TextEncoder().encode(explanation)]) };
}
