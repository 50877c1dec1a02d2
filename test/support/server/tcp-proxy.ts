import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";

/** Forwards between a client and a server, and can behave like a failing network. */
export interface TcpProxy {
  readonly port: number;
  /** Cuts every connection as soon as a client sends these bytes; the server still receives them. */
  cutAfter(bytes: string): void;
  /** Cuts every connection and refuses new ones until `accept`. */
  refuse(): void;
  accept(): void;
  /** Accepts new connections but sends nothing on them. */
  silence(): void;
  /** Stops sending on every connection without closing it, like a server that loses power. */
  freeze(): void;
  close(): Promise<void>;
}

/** Opens a proxy on a free loopback port in front of the server of the URL. */
export async function openTcpProxy(url: string): Promise<TcpProxy> {
  const { hostname, port } = new URL(url);
  const sockets = new Set<Socket>();
  let mode: "forward" | "refuse" | "silence" | "freeze" = "forward";
  let trigger: string | undefined;
  const cut = () => {
    for (const socket of sockets) socket.destroy();
    sockets.clear();
  };
  const server = createServer((client) => {
    if (mode === "refuse") return client.destroy();
    sockets.add(client);
    client.on("error", () => undefined);
    if (mode === "silence" || mode === "freeze") return client.resume();
    const upstream = connect(Number(port || 5432), hostname);
    sockets.add(upstream);
    upstream.on("error", () => undefined);
    client.on("data", (data) => {
      if (mode === "freeze") return;
      const hit = trigger !== undefined && data.includes(trigger);
      upstream.write(data, () => {
        if (hit) cut();
      });
    });
    upstream.on("data", (data) => {
      if (mode !== "freeze") client.write(data);
    });
    client.on("close", () => upstream.destroy());
    upstream.on("close", () => client.destroy());
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    port: (server.address() as AddressInfo).port,
    cutAfter(bytes) {
      trigger = bytes;
    },
    refuse() {
      mode = "refuse";
      cut();
    },
    accept() {
      mode = "forward";
      trigger = undefined;
    },
    silence() {
      mode = "silence";
    },
    freeze() {
      mode = "freeze";
    },
    async close() {
      cut();
      server.close();
      await once(server, "close");
    },
  };
}
