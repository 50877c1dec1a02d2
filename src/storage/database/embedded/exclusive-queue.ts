/** Queue for exclusive access. It has one holder at a time, in the order of the requests. */
export class ExclusiveQueue {
  readonly #waiting: Array<() => void> = [];
  #held = false;

  /** True while there is a holder. */
  get held(): boolean {
    return this.#held;
  }

  /** Number of waiting callers. */
  get waiting(): number {
    return this.#waiting.length;
  }

  /**
   * Waits until the caller is the holder. Resolves to a function that releases the queue; further calls of it do
   * nothing. Aborting the signal removes the caller from the queue and rejects with the signal's reason.
   */
  async acquire(signal?: AbortSignal): Promise<() => void> {
    signal?.throwIfAborted();
    if (this.#held) await this.#wait(signal);
    this.#held = true;
    let released = false;
    return () => {
      if (released) return;
      released = true;
      const next = this.#waiting.shift();
      // `held` remains true, so no other caller can become the holder before the promise of the next one has settled.
      if (next === undefined) this.#held = false;
      else next();
    };
  }

  #wait(signal: AbortSignal | undefined): Promise<void> {
    return new Promise((resolve, reject) => {
      const enter = () => {
        signal?.removeEventListener("abort", leave);
        resolve();
      };
      const leave = () => {
        this.#waiting.splice(this.#waiting.indexOf(enter), 1);
        reject(signal?.reason);
      };
      signal?.addEventListener("abort", leave, { once: true });
      this.#waiting.push(enter);
    });
  }
}
