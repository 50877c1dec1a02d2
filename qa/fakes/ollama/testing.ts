import { connect } from "node:net";
import { onTestFinished } from "vitest";
import { type FakeOllama, type FakeOllamaOptions, startFakeOllama } from "./index.ts";

/** Starts a fake that closes with the test. */
export async function startForTest(options: FakeOllamaOptions = {}): Promise<FakeOllama> {
  const fake = await startFakeOllama(options);
  onTestFinished(() => fake.close());
  return fake;
}

/** A response as received. */
export interface Answer {
  readonly status: number;
  readonly type: string | null;
  readonly body: string;
}

/** Sends one request with `fetch`; a body that is not a string is sent as JSON. */
export async function call(
  fake: FakeOllama,
  method: string,
  path: string,
  body?: unknown,
  signal?: AbortSignal,
): Promise<Answer> {
  const response = await fetch(fake.url + path, {
    method,
    redirect: "manual",
    ...(body !== undefined && { body: typeof body === "string" ? body : JSON.stringify(body) }),
    ...(signal && { signal }),
  });
  const type = response.headers.get("content-type");
  return { status: response.status, type, body: await response.text() };
}

/** Calls `POST /api/embed` and decodes the response. */
export async function embed(fake: FakeOllama, input: unknown, more: object = {}, signal?: AbortSignal) {
  const { status, body } = await call(fake, "POST", "/api/embed", { model: "tiny", input, ...more }, signal);
  return { status, json: JSON.parse(body) };
}

/** The bytes and end of a connection. */
export interface Exchange {
  readonly received: string;
  /** `end` is FIN, `open` means no end yet; otherwise the error code, such as `ECONNRESET`. */
  readonly outcome: string;
}

/**
 * Sends one embedding request over a bare connection and reads until it ends, `until` resolves or
 * `untilReceived` accepts the received bytes; then closes the connection.
 */
export function exchange(
  fake: FakeOllama,
  options: { until?: Promise<unknown>; untilReceived?: (received: string) => boolean } = {},
): Promise<Exchange> {
  const body = JSON.stringify({ model: "tiny", input: ["one", "two"] });
  const socket = connect(Number(new URL(fake.url).port), "127.0.0.1");
  return new Promise((resolve) => {
    let received = "";
    const finish = (outcome: string) => {
      resolve({ received, outcome });
      socket.destroy();
    };
    socket.setEncoding("utf8");
    socket.on("data", (data: string) => {
      received += data;
      if (options.untilReceived?.(received)) finish("open");
    });
    socket.once("end", () => finish("end"));
    socket.once("error", (error: NodeJS.ErrnoException) => finish(error.code ?? error.message));
    socket.write(`POST /api/embed HTTP/1.1\r\nHost: fake\r\nContent-Length: ${body.length}\r\n\r\n${body}`);
    void options.until?.then(() => finish("open"));
  });
}

/** Whether the received bytes are a whole HTTP response with a Content-Length. */
export function isComplete(received: string): boolean {
  const [head = "", ...rest] = received.split("\r\n\r\n");
  const length = /content-length: (\d+)/i.exec(head)?.[1];
  return length !== undefined && rest.join("\r\n\r\n").length >= Number(length);
}
