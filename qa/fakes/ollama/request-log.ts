import type { IncomingHttpHeaders } from "node:http";

/** What a request was and what became of it. */
export interface RecordedRequest {
  /** When its body had been read, in milliseconds of the fake's clock. */
  readonly t: number;
  readonly method: string;
  /** Without the query string. */
  readonly path: string;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
  /** The body decoded, or undefined if it is no JSON. */
  readonly json: unknown;
  /** Whether the client left before the answer was complete. */
  readonly aborted: boolean;
  /** Status sent; 499 if the client left before; 0 while there is none. */
  readonly status: number;
  /** Resolves when the answer has been sent or the connection is gone. */
  readonly done: Promise<void>;
}

/** A record while its request is under way. */
export type OpenRecord = { -readonly [Key in keyof RecordedRequest]: RecordedRequest[Key] };

/** All requests so far, and a way to wait for one. */
export class RequestLog {
  readonly requests: RecordedRequest[] = [];
  readonly #watchers = new Set<(request: RecordedRequest) => void>();

  add(request: RecordedRequest): void {
    this.requests.push(request);
    for (const watch of this.#watchers) watch(request);
  }

  /** Resolves with the first request, past or to come, that passes the test. */
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
