import type { IncomingHttpHeaders } from "node:http";

/** A request and its outcome. */
export interface RecordedRequest {
  /** When its body was complete, in milliseconds of the fake's clock. */
  readonly t: number;
  readonly method: string;
  /** Without the query string. */
  readonly path: string;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
  /** The decoded body, or undefined if it is not JSON. */
  readonly json: unknown;
  /** Whether the client left before the response was complete. */
  readonly aborted: boolean;
  /** The status sent; 499 if the client left first; 0 while the request is pending. */
  readonly status: number;
  /** Resolves when the response is sent or the connection has ended. */
  readonly done: Promise<void>;
}

/** The record of a pending request. */
export type OpenRecord = { -readonly [Key in keyof RecordedRequest]: RecordedRequest[Key] };

/** Records all requests and lets a test wait for one. */
export class RequestLog {
  readonly requests: RecordedRequest[] = [];
  readonly #watchers = new Set<(request: RecordedRequest) => void>();

  add(request: RecordedRequest): void {
    this.requests.push(request);
    for (const watch of this.#watchers) watch(request);
  }

  /** Resolves with the first request, past or future, that passes the test. */
  when(test: (request: RecordedRequest) => boolean): Promise<RecordedRequest> {
    const earlier = this.requests.find(test);
    if (earlier) return Promise.resolve(earlier);
    return new Promise((resolve) => {
      const watch = (request: RecordedRequest) => {
        if (!test(request)) return;
        this.#watchers.delete(watch);
        resolve(request);
      };
      this.#watchers.add(watch);
    });
  }
}
