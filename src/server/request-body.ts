import type { IncomingMessage, ServerResponse } from "node:http";
import { constants, Http2ServerRequest, type Http2ServerResponse } from "node:http2";
import { ServiceError } from "../memory/model/errors.ts";
import { connectErrorFrom } from "../rpc/interceptors/errors.ts";

export type HttpRequest = IncomingMessage | Http2ServerRequest;
export type HttpResponse = ServerResponse | Http2ServerResponse;

/** How long an HTTP/1.1 client may continue to send after an early answer, before its connection is destroyed. */
const lingerMs = 2_000;

/**
 * Yields the bytes of a request.
 *
 * Ending the iteration early must not destroy the request, since over HTTP/1.1 that would reset the connection before the client
 * can read the answer. In Node, an HTTP/2 stream that the client has reset ends like a complete one. Here it is an error, because
 * half of a protobuf message may be a valid message.
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
    // Not awaited, because it would wait as long as a read that has timed out.
    void chunks.return?.().catch(() => undefined);
  }
  if (request.aborted) throw clientLeft(undefined);
}

/** The limits of a request body. */
export interface BodyLimits {
  /** Time-out of the whole request or, with `perWait`, of each read. */
  readonly timeoutMs: number;
  readonly perWait: boolean;
  /** Called with the number of bytes that have arrived. @throws ConnectError to refuse them. */
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
 * Discards the unread rest of a request after an early answer. Over HTTP/1.1 it would block the next request of the connection.
 * An HTTP/2 stream would keep the flow-control window of its session and the received bytes as long as the session exists, and the
 * session as long as the server runs.
 */
export function discardUnreadBody(request: HttpRequest, response: HttpResponse): void {
  if (request instanceof Http2ServerRequest) {
    const { stream } = request;
    stream.once("wantTrailers", () => {
      // The trailers of this event must be sent first.
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
      // The connection may serve the next request by then.
      if (!request.complete) request.destroy();
    }, lingerMs);
    request.once("close", () => clearTimeout(timer));
  });
}

function dump(request: HttpRequest): void {
  // A pending iteration would prevent the rest from flowing, and the request from ending.
  request.removeAllListeners("readable");
  request.resume();
}
