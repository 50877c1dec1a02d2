import { constants, Http2ServerRequest } from "node:http2";
import { Code, ConnectError } from "@connectrpc/connect";
import type { UniversalServerResponse } from "@connectrpc/connect/protocol";
import type { HttpRequest, HttpResponse } from "./request-body.ts";

/** Destroys the stream of a client that does not read a complete response in time, which holds the stream and up to 4 MiB. */
export function destroyIfUnread(request: HttpRequest, response: HttpResponse, timeoutMs: number): void {
  const timer = setTimeout(() => destroyStream(request, response), timeoutMs).unref();
  response.once("close", () => clearTimeout(timer));
}

/** Applies destroyIfUnread from the first chunk of a response on. Before that, the server itself may take its time. */
export function withReadTimeout(
  answer: UniversalServerResponse,
  request: HttpRequest,
  response: HttpResponse,
  timeoutMs: number,
): UniversalServerResponse {
  const { body } = answer;
  if (body === undefined) return answer;
  async function* timed(chunks: AsyncIterable<Uint8Array>) {
    let first = true;
    for await (const chunk of chunks) {
      if (first) destroyIfUnread(request, response, timeoutMs);
      first = false;
      yield chunk;
    }
  }
  return { ...answer, body: timed(body) };
}

function destroyStream(request: HttpRequest, response: HttpResponse): void {
  if (!(request instanceof Http2ServerRequest)) response.destroy();
  // If a client resets a stream without an error, Node keeps the stream with the data that waits to be written.
  else if (request.stream.closed) request.stream.destroy();
  else request.stream.close(constants.NGHTTP2_CANCEL);
}

/** Returns whether a write failed because its stream has ended, by the client or by a shutdown. */
export function isStreamEnd(error: unknown): boolean {
  const { code, cause } = ConnectError.from(error);
  if (code === Code.Aborted || code === Code.Canceled) return true;
  // connect reports this if the stream was reset while a write waited for the client's window.
  return cause instanceof Error && "code" in cause && cause.code === "ECANCELED";
}

/** Returns whether the complete response was sent to a client that was still connected. */
export function isSent(request: HttpRequest, response: HttpResponse): boolean {
  return request instanceof Http2ServerRequest ? request.stream.rstCode === 0 : response.writableFinished;
}
