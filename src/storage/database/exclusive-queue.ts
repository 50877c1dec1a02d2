/** Lets one holder in at a time, in the order of asking. */
export class ExclusiveQueue {
  readonly #waiting: Array<() => void> = [];
  #held = false;

  /** True while somebody is in. */
  get held(): boolean {
    return this.#held;
  }

  /** How many wait behind the holder. */
  get waiting(): number {
    return this.#waiting.length;
  }

  /**
   * Resolves, when it is the caller's turn, to the function that ends the turn (further calls do nothing).
   * Aborting takes the caller out of the queue and rejects with the signal's reason.
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
      // `held` stays true for the next one: nobody may slip in before its promise has settled.
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
