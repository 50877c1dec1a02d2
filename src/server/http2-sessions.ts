import {
  createServer,
  type Http2ServerRequest,
  type Http2ServerResponse,
  constants as http2Constants,
  type ServerHttp2Session,
} from "node:http2";
import type { Socket } from "node:net";

/** Maximum number of concurrent streams of a connection, which bounds its memory. Further streams wait at the client. */
const MAX_STREAMS_PER_CONNECTION = 250;

/** Flow-control window of a stream. With HTTP/2's default of 64 KiB, a message of megabytes needs many round trips. */
const STREAM_WINDOW_BYTES = 1024 * 1024;

/** Memory of one session, beyond which Node refuses streams. Node's default of 10 MB is two large answers. */
const MAX_SESSION_MEGABYTES = 128;

/** The maximum stream id, so that streams which the client opens before it reads GOAWAY are still accepted. */
const MAX_STREAM_ID = 2 ** 31 - 1;

/** Time for the answer to a ping. Node's own client may not answer it after GOAWAY if it has no open stream. */
const DRAIN_MS = 250;

/** The HTTP/2 sessions of a listener. */
export interface Http2Sessions {
  /** Starts a session on a connection. */
  accept(socket: Socket): void;
  /** Lets running streams finish, and refuses no stream that is already on its way. */
  drain(): void;
  destroy(): void;
}

/** @param idleMs Time after which a session without a stream is closed. */
export function createHttp2Sessions(
  handle: (request: Http2ServerRequest, response: Http2ServerResponse) => void,
  idleMs: number,
): Http2Sessions {
  const sessions = new Set<ServerHttp2Session>();
  const server = createServer(
    {
      maxSessionMemory: MAX_SESSION_MEGABYTES,
      settings: {
        maxConcurrentStreams: MAX_STREAMS_PER_CONNECTION,
        initialWindowSize: STREAM_WINDOW_BYTES,
      },
    },
    handle,
  );
  // Without this listener, Node answers `Expect: 100-continue` itself, even if the client has reset the stream. That throws outside
  // of any handler and would end the process.
  server.on("checkContinue", (request, response) => {
    if (!response.stream.destroyed && !response.stream.closed) response.writeContinue();
    handle(request, response);
  });
  server.on("session", (session) => {
    sessions.add(session);
    session.once("close", () => sessions.delete(session));
    session.setLocalWindowSize(4 * STREAM_WINDOW_BYTES);
    closeWhenIdle(session, idleMs, () => drainSession(session));
  });
  return {
    accept(socket) {
      // HTTP/1.1 servers allow half-open connections. A session on such a socket would outlive its client forever.
      socket.allowHalfOpen = false;
      server.emit("connection", socket);
    },
    drain() {
      for (const session of sessions) drainSession(session);
    },
    destroy() {
      for (const session of sessions) session.destroy();
    },
  };
}

/**
 * Ends a session without refusing a stream, as Node's `close` does with streams that are already on their way. GOAWAY first
 * asks the client to open no more streams. The session closes when the client has answered a ping, and so has read GOAWAY.
 */
function drainSession(session: ServerHttp2Session): void {
  if (session.closed || session.destroyed) return;
  const close = () => {
    clearTimeout(timer);
    if (!session.closed) session.close();
  };
  const timer = setTimeout(close, DRAIN_MS);
  session.once("close", close);
  session.goaway(http2Constants.NGHTTP2_NO_ERROR, MAX_STREAM_ID);
  session.ping(close);
}

/** Calls `close` when the session has had no stream for `idleMs`. */
function closeWhenIdle(session: ServerHttp2Session, idleMs: number, close: () => void): void {
  let streams = 0;
  let timer = setTimeout(close, idleMs);
  session.on("stream", (stream) => {
    streams += 1;
    clearTimeout(timer);
    stream.once("close", () => {
      streams -= 1;
      if (streams === 0 && !session.closed) timer = setTimeout(close, idleMs);
    });
  });
  session.once("close", () => clearTimeout(timer));
}
