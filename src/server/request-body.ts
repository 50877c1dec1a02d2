import type { IncomingMessage, ServerResponse } from "node:http";
import { constants, Http2ServerRequest, type Http2ServerResponse } from "node:http2";
import { ServiceError } from "../memory/model/errors.ts";
import { connectErrorFrom } from "../rpc/interceptors/errors.ts";

export type HttpRequest = IncomingMessage | Http2ServerRequest;
export type HttpResponse = ServerResponse | Http2ServerResponse;

/** How long an HTTP/1.1 client that was answered early may go on sending, before it is cut. */
const lingerMs = 2_000;

/**
 * The bytes of a request.
 *
 * Leaving the iteration early must not destroy the request: over HTTP/1.1 that resets the connection before
 * the client could read why. An HTTP/2 stream that the client reset ends like a complete one; it is an error
 * here, since half a protobuf message may well be a valid message.
 *
 * @throws ConnectError Canceled if the client left before the end, DeadlineExceeded if it took too long.
 */
export async function* requestBody(request: HttpRequest, limits: BodyLimits): AsyncGenerator<Uint8Array> {
  const chunks = request.iterator({ destroyOnReturn: false })[Symbol.asyncIterator]();
  const startedAt = performance.now();
  try {
    for (;;) {
      const usedMs = limits.perWait ? 0 : performance.now() - startedAt;
      const next = await inTime(chunks.next(), limits.timeoutMs - usedMs);
      if (next.done) break;
      limits.hold(next.value.byteLength);
      yield next.value;
    }
  } finally {
    // Not awaited: behind a wait that took too long it would take as long.
    void chunks.return?.().catch(() => undefined);
  }
  if (request.aborted) throw clientLeft(undefined);
}

/** How long a request may take, and what is told of its bytes. */
export interface BodyLimits {
  /** For the whole request; or, `perWait`, for each wait for more of it. */
  readonly timeoutMs: number;
  readonly perWait: boolean;
  /** Told of bytes that have come. @throws ConnectError to refuse them. */
  readonly hold: (bytes: number) => void;
}

/** @throws ConnectError Canceled if the client left, DeadlineExceeded if it takes too long. */
async function inTime<T>(chunk: Promise<T>, timeoutMs: number): Promise<T> {
  const { promise: tooLate, reject } = Promise.withResolvers<never>();
  const late = new ServiceError("DEADLINE_EXCEEDED", "the request did not arrive in time");
  const timer = setTimeout(() => reject(connectErrorFrom(late)), Math.max(0, timeoutMs));
  const arrived = chunk.catch((cause: unknown) => {
    throw clientLeft(cause);
  });
  try {
    return await Promise.race([arrived, tooLate]);
  } finally {
    clearTimeout(timer);
  }
}

function clientLeft(cause: unknown) {
  return connectErrorFrom(
    new ServiceError("CANCELED", "the client left before its request was complete", { cause }),
  );
}

/**
 * Frees what an early answer leaves behind: the rest of a request that nobody will read would block the next
 * one of its HTTP/1.1 connection. An HTTP/2 stream would hold the flow control window of its session and what has come of the
 * request, for as long as the session lasts, and the session for as long as the server.
 */
export function discardUnreadBody(request: HttpRequest, response: HttpResponse): void {
  if (request instanceof Http2ServerRequest) {
    const { stream } = request;
    stream.once("wantTrailers", () => {
      // The trailers of this very event have to leave first.
      setImmediate(() => {
        if (!request.complete && !stream.closed) stream.close(constants.NGHTTP2_NO_ERROR);
        dump(request);
      });
    });
    return;
  }
  response.once("finish", () => {
    dump(request);
    if (request.complete) return;
    const timer = setTimeout(() => {
      // By then its connection may serve the next request.
      if (!request.complete) request.destroy();
    }, lingerMs);
    request.once("close", () => clearTimeout(timer));
  });
}

function dump(request: HttpRequest): void {
  // An iteration that still waits for more would keep the rest from flowing, and so from ending.
  request.removeAllListeners("readable");
  request.resume();
}
