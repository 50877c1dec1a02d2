import type { ServerResponse } from "node:http";
import type { Clock } from "./clock.ts";
import type { Fault } from "./faults.ts";
import type { Reply } from "./reply.ts";

/** Sends a reply as the fault allows. Rejects with the signal's reason if the client leaves. */
export async function send(
  response: ServerResponse,
  reply: Reply,
  fault: Fault | undefined,
  clock: Clock,
  signal: AbortSignal,
): Promise<void> {
  const body = Buffer.from(reply.body);
  const phase = fault && "phase" in fault ? fault.phase : undefined;
  response.statusCode = reply.status;
  response.setHeader("Content-Type", reply.type);
  for (const [name, value] of Object.entries(reply.headers ?? {})) response.setHeader(name, value);
  if (reply.lines) {
    for await (const line of reply.lines) response.write(line);
    response.end();
    return;
  }
  response.setHeader("Content-Length", body.length);
  if (phase === "headers" || phase === "body") {
    response.flushHeaders();
    if (phase === "body") await written(response, body.subarray(0, Math.ceil(body.length / 2)));
    if (fault?.kind === "hang") return;
    // The written bytes must reach the client before the connection ends.
    await new Promise((resolve) => setImmediate(resolve));
    cut(response, fault);
    return;
  }
  if (fault?.kind === "drip") await drip(response, body, fault.bytesPerSec, clock, signal);
  const { socket } = response;
  if (fault?.kind === "staleKeepAlive") response.on("finish", () => socket?.destroySoon());
  response.end(fault?.kind === "drip" ? undefined : body);
}

/** Ends the connection of a response: with RST, or with FIN for the fault `close`. */
export function cut(response: ServerResponse, fault: Fault | undefined): void {
  if (fault?.kind === "close") response.socket?.destroySoon();
  else response.socket?.resetAndDestroy();
}

async function drip(
  response: ServerResponse,
  body: Buffer,
  bytesPerSec: number,
  clock: Clock,
  signal: AbortSignal,
): Promise<void> {
  const chunk = Math.max(1, Math.round(bytesPerSec / 10));
  response.flushHeaders();
  for (let at = 0; at < body.length; at += chunk) {
    await written(response, body.subarray(at, at + chunk));
    await clock.sleep((chunk / bytesPerSec) * 1000, signal);
  }
}

function written(response: ServerResponse, chunk: Buffer): Promise<void> {
  return new Promise((resolve) => response.write(chunk, () => resolve()));
}
