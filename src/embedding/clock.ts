/** The embedder's source of time. Tests replace it with one that they move by hand. */
export interface Clock {
  /** Returns monotonic time in milliseconds; not the time of day. */
  now(): number;
  /**
   * Calls `callback` once after `delayMs`. Returns a function that cancels it and may be called at any time.
   *
   * @param background Whether the process may exit before the callback runs. Defaults to false.
   */
  schedule(delayMs: number, callback: () => void, background?: boolean): () => void;
}

/** The system's time. */
export const systemClock: Clock = {
  now: () => performance.now(),
  schedule(delayMs, callback, background = false) {
    const timer = setTimeout(callback, delayMs);
    if (background) timer.unref();
    return () => clearTimeout(timer);
  },
};

/** Resolves after `delayMs`. @throws the signal's reason if it aborts first. */
export function sleep(clock: Clock, delayMs: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(signal.reason);
    const leave = () => {
      cancel();
      reject(signal?.reason);
    };
    const cancel = clock.schedule(delayMs, () => {
      signal?.removeEventListener("abort", leave);
      resolve();
    });
    signal?.addEventListener("abort", leave, { once: true });
  });
}
