import { connect } from "node:net";

/** Code that distinguishes a cancel request from a startup packet. */
const cancelRequestCode = (1234 << 16) | 5678;

export interface CancelTarget {
  /** Host name or address. A value that starts with `/` is the directory of a Unix socket. */
  readonly host: string;
  readonly port: number;
  readonly processId: number;
  readonly secretKey: number;
}

/**
 * Cancels the statement that runs on another connection. It opens a new connection for the cancel request of the wire
 * protocol, which needs no login and passes through PgBouncer, unlike `pg_cancel_backend`. The server accepts the
 * request unencrypted even if it requires TLS otherwise.
 *
 * Resolves when the server has closed the connection. At that time, the server has signalled the backend.
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
    // Without a reader, the socket never emits "close".
    socket.resume();
  });
}
