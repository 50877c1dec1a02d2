import { once } from "node:events";
import type { ServerProcess } from "./server-process.ts";

/** Memory use of a process, in bytes. */
export interface MemoryUse {
  /** Resident memory, including what the runtime keeps for later. */
  readonly rss: number;
  /** Objects and buffers that the main thread uses after a garbage collection. */
  readonly used: number;
}

/**
 * Reads a server's memory use after a garbage collection through Node's inspector. The server must be started with the
 * Node option `--inspect=127.0.0.1:0`.
 */
export async function readMemoryUse(server: ServerProcess): Promise<MemoryUse> {
  const address = /ws:\/\/\S+/.exec(server.stderr())?.[0];
  if (address === undefined) throw new Error("the server runs without an inspector");
  const socket = new WebSocket(address);
  await once(socket, "open");
  try {
    await ask(socket, "HeapProfiler.collectGarbage");
    const expression = "JSON.stringify(process.memoryUsage())";
    const answer = await ask(socket, "Runtime.evaluate", { expression });
    const usage = JSON.parse(answer.result?.result?.value ?? "") as NodeJS.MemoryUsage;
    return { rss: usage.rss, used: usage.heapUsed + usage.external };
  } finally {
    socket.close();
  }
}

interface Answer {
  readonly result?: { readonly result?: { readonly value?: string } };
}

async function ask(socket: WebSocket, method: string, params: object = {}): Promise<Answer> {
  const answered = once(socket, "message") as Promise<[{ readonly data: string }]>;
  socket.send(JSON.stringify({ id: 1, method, params }));
  const [{ data }] = await answered;
  return JSON.parse(data);
}
