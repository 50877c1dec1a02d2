/** One whole answer, before a fault has its way with it. */
export interface Reply {
  readonly status: number;
  readonly type: string;
  readonly body: string | Buffer;
  readonly headers?: Readonly<Record<string, string>>;
  /** Lines sent one by one in place of `body`. */
  readonly lines?: AsyncIterable<string>;
}

/** What Ollama answers with `{"error": ...}`. Thrown by a handler, turned into a reply by the server. */
export class Refusal extends Error {
  override readonly name = "Refusal";
  readonly status: number;
  readonly error: unknown;

  constructor(status: number, error: unknown) {
    super(`${status} ${JSON.stringify(error)}`);
    this.status = status;
    this.error = error;
  }
}

export function jsonReply(value: unknown, status = 200): Reply {
  return { status, type: "application/json; charset=utf-8", body: JSON.stringify(value) };
}

export function textReply(status: number, body: string, type = "text/plain"): Reply {
  return { status, type, body };
}
