import http from "node:http";
import http2 from "node:http2";
import { type Answer, type RawAnswer, readAnswer } from "./answer.ts";
import type { HttpCall } from "./call.ts";

/** Sends calls that are valid HTTP. */
export interface HttpClient {
  /** Always resolves; a missing answer is also an outcome. */
  send(call: HttpCall): Promise<Answer>;
  close(): void;
}

/** A call that takes longer has hung. */
const answerMs = 30_000;

const maxBodyBytes = 16 * 1024 * 1024;

/** Creates a client with a separate connection for each HTTP version. */
export function createHttpClient(url: string): HttpClient {
  const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
  let session: http2.ClientHttp2Session | undefined;
  const sessionNow = () => {
    if (session === undefined || session.closed || session.destroyed) {
      // With the default of 10 MB, the client would abort answers to large requests.
      session = http2.connect(url, { maxSessionMemory: 1_000 });
      session.on("error", () => undefined);
    }
    return session;
  };
  return {
    send: (call) => (call.version === 1 ? sendHttp1(url, agent, call) : sendHttp2(url, sessionNow(), call)),
    close() {
      agent.destroy();
      session?.destroy();
    },
  };
}

function sendHttp1(url: string, agent: http.Agent, call: HttpCall): Promise<Answer> {
  const { promise, resolve } = Promise.withResolvers<Answer>();
  // Bytes that HTTP parses as another request would break the next one on the connection.
  const broken = call.headers["content-length"] !== undefined;
  const length = call.chunked ? {} : { "content-length": String(call.body.length) };
  let request: http.ClientRequest;
  try {
    request = http.request(url, {
      agent: broken ? false : agent,
      method: call.verb,
      path: call.path,
      headers: { ...length, ...call.headers },
    });
  } catch {
    return Promise.resolve({ outcome: "not sent", text: "" });
  }
  const timer = setTimeout(() => {
    resolve({ outcome: "no answer in time", text: "" });
    request.destroy();
  }, answerMs);
  request.on("close", () => clearTimeout(timer));
  request.on("error", (error) => resolve(endOf(error)));
  request.on("response", (response) => {
    const collected = collect(response);
    if (call.leaves === "at-answer") {
      resolve({ outcome: "left", text: "" });
      request.destroy();
      return;
    }
    response.on("error", (error) => resolve(endOf(error)));
    response.on("end", () => resolve(answerOf(response.statusCode, response.headers, collected())));
  });
  if (call.leaves === "after-head") {
    request.flushHeaders();
    setImmediate(() => {
      request.destroy();
      resolve({ outcome: "left", text: "" });
    });
  } else {
    request.end(call.body);
  }
  return promise;
}

function sendHttp2(url: string, session: http2.ClientHttp2Session, call: HttpCall): Promise<Answer> {
  const { promise, resolve } = Promise.withResolvers<Answer>();
  let stream: http2.ClientHttp2Stream;
  try {
    // Without the option, a GET would end before its body.
    stream = session.request(
      {
        ":method": call.verb,
        ":path": call.path,
        ":authority": new URL(url).host,
        ...call.headers,
      },
      { endStream: false },
    );
  } catch {
    return Promise.resolve({ outcome: "not sent", text: "" });
  }
  const timer = setTimeout(() => {
    resolve({ outcome: "no answer in time", text: "" });
    stream.close(http2.constants.NGHTTP2_CANCEL);
  }, answerMs);
  const collected = collect(stream);
  let fields: Record<string, unknown> = {};
  stream.on("response", (headers) => {
    fields = { ...fields, ...headers };
    if (call.leaves !== "at-answer") return;
    stream.close(http2.constants.NGHTTP2_CANCEL);
    resolve({ outcome: "left", text: "" });
  });
  stream.on("trailers", (trailers) => {
    fields = { ...fields, ...trailers };
  });
  stream.on("error", (error) => resolve({ outcome: `${endOf(error).outcome} ${stream.rstCode}`, text: "" }));
  stream.on("close", () => {
    clearTimeout(timer);
    const status = Number(fields[":status"]);
    resolve(
      Number.isNaN(status)
        ? { outcome: `reset ${stream.rstCode}`, text: "" }
        : answerOf(status, fields, collected()),
    );
  });
  if (call.leaves === "after-head") {
    setImmediate(() => stream.close(http2.constants.NGHTTP2_CANCEL));
    resolve({ outcome: "left", text: "" });
  } else {
    stream.end(call.body);
  }
  return promise;
}

function collect(readable: NodeJS.ReadableStream): () => Buffer {
  const chunks: Buffer[] = [];
  let bytes = 0;
  readable.on("data", (chunk: Buffer) => {
    bytes += chunk.length;
    if (bytes <= maxBodyBytes) chunks.push(chunk);
  });
  return () => Buffer.concat(chunks);
}

function answerOf(status: number | undefined, headers: object, body: Buffer): Answer {
  const fields = new Map(Object.entries(headers).map(([name, value]) => [name, String(value)]));
  const raw: RawAnswer = { status: status ?? 0, fields, body };
  return readAnswer(raw);
}

function endOf(error: unknown): Answer {
  const code = error instanceof Error && "code" in error ? String(error.code) : String(error);
  return { outcome: `cut: ${code}`, text: "" };
}
