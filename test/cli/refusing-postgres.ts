import { once } from "node:events";
import { type AddressInfo, createServer } from "node:net";

/** A fake PostgreSQL server that rejects every connection. */
export interface RefusingPostgres extends AsyncDisposable {
  readonly port: number;
}

/** Responds to each start-up message with an error of this SQLSTATE, in PostgreSQL's wire protocol. */
export async function startRefusingPostgres(sqlstate: string, message: string): Promise<RefusingPostgres> {
  const fields = `SFATAL\0VFATAL\0C${sqlstate}\0M${message}\0\0`;
  const answer = Buffer.alloc(5 + Buffer.byteLength(fields));
  answer.write("E");
  answer.writeInt32BE(answer.length - 1, 1);
  answer.write(fields, 5);
  const server = createServer((socket) => {
    socket.on("error", () => {});
    socket.once("data", () => socket.end(answer));
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    port: (server.address() as AddressInfo).port,
    async [Symbol.asyncDispose]() {
      server.close();
      await once(server, "close");
    },
  };
}
