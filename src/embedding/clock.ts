/** Time as the embedder sees it, so that tests can move it by hand. */
export interface Clock {
  /** Milliseconds that only ever grow; not the time of day. */
  now(): number;
  /**
   * Calls `callback` once after `delayMs`. The returned function cancels it and may be called at any time.
   *
   * @param background Whether the process may end before. Default false: somebody waits for it.
   */
  schedule(delayMs: number, callback: () => void, background?: boolean): () => void;
}

/** The real time. */
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
