import { connect, type Socket } from "node:net";
import type { Answer } from "./answer.ts";

/** Sends bytes that no HTTP client would send. */
export interface RawClient {
  /** Writes the parts in order, ends its side of the connection, and reads until the server closes. */
  send(parts: readonly Uint8Array[], options?: RawOptions): Promise<Answer>;
  /** Keeps a connection open after these bytes, like a slow or vanished client; closes the oldest to stay in bounds. */
  hold(part: Uint8Array): Promise<Answer>;
  /** Closes the held connections. */
  close(): void;
}

export interface RawOptions {
  /** Returns true once the received bytes are a whole answer; without it, the server has to close. */
  readonly isComplete?: (received: Buffer) => boolean;
  /** Describes the received bytes. */
  readonly describe: (received: Buffer) => string;
  /** Whether to reset the connection once everything is written. */
  readonly reset?: boolean;
}

/** The server rejects invalid bytes within this time. */
const quietMs = 3_000;

const maxHeld = 100;
const maxBytes = 4 * 1024 * 1024;

export function createRawClient(port: number): RawClient {
  const held = new Set<Socket>();
  let dropped = 0;
  return {
    send: (parts, options) => exchange(port, parts, options),
    async hold(part) {
      const socket = await open(port);
      if (socket === undefined) return { outcome: "refused", text: "" };
      held.add(socket);
      socket.on("close", () => held.delete(socket));
      socket.resume().write(part);
      const [oldest] = held;
      if (held.size > maxHeld && oldest !== undefined) {
        // One in three ends properly, one sends a little more, and one is reset.
        const way = dropped++ % 3;
        if (way === 0) oldest.end();
        else if (way === 1) oldest.end("\r\n");
        else oldest.resetAndDestroy();
        held.delete(oldest);
        oldest.setTimeout(quietMs, () => oldest.destroy());
      }
      return { outcome: "held open", text: "" };
    },
    close() {
      for (const socket of held) socket.destroy();
    },
  };
}

async function exchange(port: number, parts: readonly Uint8Array[], options?: RawOptions): Promise<Answer> {
  const socket = await open(port);
  if (socket === undefined) return { outcome: "refused", text: "" };
  const { promise, resolve } = Promise.withResolvers<string>();
  let received = Buffer.alloc(0);
  socket.on("data", (chunk: Buffer) => {
    if (received.length > maxBytes) return;
    received = Buffer.concat([received, chunk]);
    if (options?.isComplete?.(received)) resolve("");
  });
  socket.on("close", () => resolve("closed"));
  const timer = setTimeout(() => resolve("silent"), quietMs);
  for (const part of parts) {
    if (socket.destroyed || !socket.writable) break;
    socket.write(part);
    await new Promise((next) => setImmediate(next));
  }
  if (options?.reset) {
    socket.resetAndDestroy();
    resolve("left");
  } else if (options?.isComplete === undefined) {
    socket.end();
  }
  const end = await promise;
  clearTimeout(timer);
  socket.destroy();
  const said = received.length === 0 ? "" : (options?.describe(received) ?? "");
  return { outcome: said || end || "closed", text: received.toString("latin1") };
}

async function open(port: number): Promise<Socket | undefined> {
  const { promise, resolve } = Promise.withResolvers<Socket | undefined>();
  const socket = connect({ port, host: "127.0.0.1", allowHalfOpen: true });
  socket.once("connect", () => resolve(socket));
  socket.on("error", () => resolve(undefined));
  return await promise;
}
