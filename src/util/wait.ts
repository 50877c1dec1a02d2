import { setTimeout as sleep } from "node:timers/promises";

/** Settles like `promise`, but rejects with the signal's reason as soon as it aborts. What the promise stands for goes on. */
export function untilAborted<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return promise;
  return new Promise<T>((resolve, reject) => {
    const leave = () => reject(signal.reason);
    if (signal.aborted) leave();
    signal.addEventListener("abort", leave, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener("abort", leave));
  });
}

/** The promise's value, or undefined if it takes longer than `milliseconds`. The promise goes on. */
export async function within<T>(promise: Promise<T>, milliseconds: number): Promise<T | undefined> {
  const timer = new AbortController();
  try {
    return await Promise.race([
      promise,
      sleep(milliseconds, undefined, { signal: timer.signal, ref: false }).catch(() => undefined),
    ]);
  } finally {
    timer.abort();
  }
}
