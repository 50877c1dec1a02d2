import type { Socket } from "node:net";
import type { Logger } from "../util/logger.ts";

/** Sufficient for a service, and below the common limit of 1,024 open files, of which the database needs some. */
export const MAX_CONNECTIONS = 900;

/** No single address may occupy all connections. A proxy in front of the server has one address, for which this is enough. */
const MAX_CONNECTIONS_PER_ADDRESS = MAX_CONNECTIONS / 2;

/** Minimum time between two warnings, so that many connections do not cause as many log lines. */
const WARNING_INTERVAL_MS = 60_000;

/** The open connections of a listener. */
export interface Connections {
  readonly sockets: ReadonlySet<Socket>;
  /** Adds a connection, or destroys it if its address has too many. Returns whether it was added. */
  add(socket: Socket): boolean;
  /** Marks a connection as served, which `destroyUndecided` then spares. With TLS, the argument is the TLS socket. */
  markServed(socket: Socket): void;
  /** Destroys the connections that have not sent their first bytes, or not completed the TLS handshake. */
  destroyUndecided(): void;
  /** Logs that connections are dropped, at most once a minute. */
  warnOfDrop(fields: object): void;
}

export function createConnections(logger: Logger): Connections {
  const sockets = new Set<Socket>();
  /** By their addresses, because a TLS socket does not reveal the socket below it. */
  const undecided = new Map<string, Socket>();
  const countByAddress = new Map<string, number>();
  let warnedAt = Number.NEGATIVE_INFINITY;

  function warnOfDrop(fields: object): void {
    if (performance.now() - warnedAt < WARNING_INTERVAL_MS) return;
    warnedAt = performance.now();
    logger.warn(fields, "too many connections; new ones are dropped");
  }

  return {
    sockets,
    warnOfDrop,

    add(socket) {
      const key = keyOf(socket);
      const { remoteAddress: address = "" } = socket;
      const count = (countByAddress.get(address) ?? 0) + 1;
      if (count > MAX_CONNECTIONS_PER_ADDRESS) {
        warnOfDrop({ address, maxConnectionsPerAddress: MAX_CONNECTIONS_PER_ADDRESS });
        socket.destroy();
        return false;
      }
      countByAddress.set(address, count);
      sockets.add(socket);
      undecided.set(key, socket);
      socket.once("close", () => {
        sockets.delete(socket);
        const remaining = (countByAddress.get(address) ?? 0) - 1;
        if (remaining > 0) countByAddress.set(address, remaining);
        else countByAddress.delete(address);
        if (undecided.get(key) === socket) undecided.delete(key);
      });
      return true;
    },

    markServed(socket) {
      undecided.delete(keyOf(socket));
    },

    destroyUndecided() {
      for (const socket of undecided.values()) socket.destroy();
    },
  };
}

/** Returns a key that identifies a connection of this port. */
function keyOf({ localAddress, remoteAddress, remotePort }: Socket): string {
  return `${localAddress} ${remoteAddress} ${remotePort}`;
}
