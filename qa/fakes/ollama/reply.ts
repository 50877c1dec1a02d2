/** A complete response, before faults are applied. */
export interface Reply {
  readonly status: number;
  readonly type: string;
  readonly body: string | Buffer;
  readonly headers?: Readonly<Record<string, string>>;
  /** Lines to send one by one instead of `body`. */
  readonly lines?: AsyncIterable<string>;
}

/** An error that Ollama returns as `{"error": ...}`. Handlers throw it, and the server turns it into a reply. */
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
