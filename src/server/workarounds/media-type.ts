import { createAsyncIterable, type UniversalServerResponse } from "@connectrpc/connect/protocol";

const explanation =
  "send a content type: application/json with JSON, application/proto with protobuf, or one of gRPC or gRPC-Web\n";

/** The answer, with a sentence where connect refuses a content type (415) without a word. */
export function explainMediaType(answer: UniversalServerResponse): UniversalServerResponse {
  if (answer.status !== 415) return answer;
  const header = new Headers(answer.header);
  header.set("content-type", "text/plain; charset=utf-8");
  return { ...answer, header, body: createAsyncIterable([new TextEncoder().encode(explanation)]) };
}
