import { createServer, type RequestListener } from "node:http";
import type { AddressInfo, Socket } from "node:net";

/** An HTTP server on 127.0.0.1 that can stop and return on the same port. */
export interface Listener {
  readonly port: number;
  /** Whether the server itself has ended this connection or is about to. */
  isKilled(socket: Socket): boolean;
  /** Marks a connection as ended by the server. */
  markKilled(socket: Socket): void;
  /** Resets all connections and refuses new ones. */
  down(): Promise<void>;
  up(): Promise<void>;
}

/** Opens a listener; port 0 selects a free one. @throws if the port is taken */
export async function openListener(port: number, onRequest: RequestListener): Promise<Listener> {
  const server = createServer(onRequest);
  // Ollama sets no timeouts.
  server.keepAliveTimeout = 0;
  server.requestTimeout = 0;
  server.headersTimeout = 0;

  const sockets = new Set<Socket>();
  const killed = new WeakSet<Socket>();
  server.on("connection", (socket) => {
    sockets.add(socket);
    socket.once("close", () => sockets.delete(socket));
  });

  const listen = (on: number) =>
    new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      server.listen(on, "127.0.0.1", () => {
        server.off("error", reject);
        resolve();
      });
    });
  await listen(port);
  const ownPort = (server.address() as AddressInfo).port;

  return {
    port: ownPort,
    isKilled: (socket) => killed.has(socket),
    markKilled: (socket) => killed.add(socket),
    down: async () => {
      if (!server.listening) return;
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      for (const socket of sockets) {
        killed.add(socket);
        socket.resetAndDestroy();
      }
      await closed;
    },
    up: async () => {
      if (!server.listening) await listen(ownPort);
    },
  };
}
