import type { Socket } from "node:net";

/** The first bytes of every HTTP/2 client (RFC 9113, section 3.4), which no HTTP/1.1 client sends. */
const http2Preface = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "latin1");

export type HttpVersion = "http1" | "http2";

/**
 * Reads the first bytes of a connection until they distinguish HTTP/1.1 from HTTP/2, restores them and passes the paused socket
 * on. Disconnects a client that has not sent enough bytes within `timeoutMs`.
 *
 * The bytes are buffered until then. If the function restored undecided bytes ("P" may become POST or PRI), the stream would emit
 * them again at once, in an endless loop.
 */
export function detectHttpVersion(
  socket: Socket,
  timeoutMs: number,
  onDetected: (version: HttpVersion) => void,
): void {
  let received = Buffer.alloc(0);
  const giveUp = () => {
    stop();
    socket.destroy();
  };
  const timer = setTimeout(giveUp, timeoutMs);
  const stop = () => {
    clearTimeout(timer);
    socket.off("data", onData).off("end", giveUp).off("error", giveUp).off("close", stop);
  };
  const onData = (chunk: Buffer) => {
    received = Buffer.concat([received, chunk]);
    const version = versionOf(received);
    if (version === undefined) return;
    stop();
    socket.pause();
    socket.unshift(received);
    onDetected(version);
  };
  socket.on("data", onData).on("end", giveUp).on("error", giveUp).on("close", stop);
}

/** Returns the version that the first bytes show; undefined while both are possible. */
export function versionOf(bytes: Buffer): HttpVersion | undefined {
  const length = Math.min(bytes.length, http2Preface.length);
  if (!bytes.subarray(0, length).equals(http2Preface.subarray(0, length))) return "http1";
  return length === http2Preface.length ? "http2" : undefined;
}
