import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";

/** Distributes connections over servers in turn and skips those that refuse, like a simple load balancer. */
export interface TcpBalancer extends AsyncDisposable {
  /** `http://127.0.0.1:<port>` */
  readonly url: string;
}

/** Opens a balancer in front of servers on these ports of the loopback interface. */
export async function openTcpBalancer(ports: readonly number[]): Promise<TcpBalancer> {
  const sockets = new Set<Socket>();
  let next = 0;

  async function forward(client: Socket): Promise<void> {
    for (let tries = 0; tries < ports.length; tries++) {
      const upstream = connect(ports[next++ % ports.length] ?? 0, "127.0.0.1");
      try {
        await once(upstream, "connect");
      } catch {
        continue;
      }
      upstream.on("error", () => client.destroy());
      sockets.add(upstream);
      client.on("close", () => upstream.destroy());
      upstream.on("close", () => client.destroy());
      client.pipe(upstream).pipe(client);
      return;
    }
    client.destroy();
  }

  const server = createServer({ pauseOnConnect: true }, (client) => {
    sockets.add(client);
    client.on("error", () => undefined);
    void forward(client);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      server.close();
      await once(server, "close");
    },
  };
}
