import type { Socket } from "node:net";

/** What every HTTP/2 client sends first (RFC 9113, section 3.4), and no HTTP/1.1 client ever does. */
const http2Preface = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "latin1");

export type HttpVersion = "http1" | "http2";

/**
 * Reads the first bytes of a connection until they tell HTTP/1.1 from HTTP/2, puts them back and hands the
 * paused socket over. A client that says nothing clear within `timeoutMs` is disconnected.
 *
 * The bytes are kept aside until then: unshifting an undecided rest ("P" may become POST or PRI) would make the
 * stream emit it again at once and spin.
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

/** The version that the first bytes prove, or undefined while both are possible. */
export function versionOf(bytes: Buffer): HttpVersion | undefined {
  const length = Math.min(bytes.length, http2Preface.length);
  if (!bytes.subarray(0, length).equals(http2Preface.subarray(0, length))) return "http1";
  return length === http2Preface.length ? "http2" : undefined;
}
