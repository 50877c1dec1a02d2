import { connect } from "node:net";

/** The number that tells the server a cancel request from a start-up packet. */
const cancelRequestCode = (1234 << 16) | 5678;

export interface CancelTarget {
  /** Host name or address; a directory (leading `/`) for a Unix socket. */
  readonly host: string;
  readonly port: number;
  readonly processId: number;
  readonly secretKey: number;
}

/**
 * Asks the server over a connection of its own to cancel what the other connection runs. The wire's own request
 * and not `pg_cancel_backend`: it needs no login and passes through PgBouncer. The server takes it in plain text
 * also where it insists on TLS otherwise (libpq always sent it so).
 *
 * Resolves when the server has closed the connection: the signal has then been sent to the backend.
 */
export function sendCancelRequest(target: CancelTarget, timeoutMs: number): Promise<void> {
  const packet = Buffer.alloc(16);
  packet.writeInt32BE(16, 0);
  packet.writeInt32BE(cancelRequestCode, 4);
  packet.writeInt32BE(target.processId, 8);
  packet.writeInt32BE(target.secretKey, 12);
  return new Promise((resolve, reject) => {
    const socket = target.host.startsWith("/")
      ? connect(`${target.host}/.s.PGSQL.${target.port}`)
      : connect(target.port, target.host);
    socket.setTimeout(timeoutMs, () => socket.destroy(new Error("the cancel request timed out")));
    socket.once("connect", () => socket.write(packet));
    socket.once("error", reject);
    socket.once("close", () => resolve());
    // Without a reader the end of the stream is never noticed.
    socket.resume();
  });
}
