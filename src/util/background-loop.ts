import { setTimeout as sleep } from "node:timers/promises";

export interface BackgroundLoop {
  /** Ends the current pause. During a round, another round follows at once. A pause after a failure is not shortened. */
  notify(): void;
  /** Aborts the signal and resolves when the running round has ended. */
  close(): Promise<void>;
}

export interface BackgroundLoopOptions {
  /** Runs one round; rounds never overlap. `notified` is false if the round starts because the pause has passed. */
  readonly run: (signal: AbortSignal, notified: boolean) => Promise<void>;
  /** Called with the error of a failed round, unless the loop is closing. */
  readonly onError: (error: unknown) => void;
  /** Returns the pause after a round, in milliseconds. */
  readonly pauseMs: () => number;
  /** Pause after a failed round, in milliseconds. Defaults to `pauseMs`. */
  readonly retryMs?: number;
  /** Abort reason when the loop is closed. */
  readonly closeReason?: unknown;
}

/** Runs `run` repeatedly with pauses, starting now. The pauses do not keep the process alive. */
export function startBackgroundLoop(options: BackgroundLoopOptions): BackgroundLoop {
  const { run, onError, pauseMs, retryMs } = options;
  const stop = new AbortController();
  let notified = true;
  let wake = () => {};
  const done = loop();

  async function loop(): Promise<void> {
    while (!stop.signal.aborted) {
      const wasNotified = notified;
      notified = false;
      try {
        await run(stop.signal, wasNotified);
      } catch (error) {
        if (stop.signal.aborted) return;
        onError(error);
        await pause(retryMs ?? pauseMs(), stop.signal);
        notified = true;
        continue;
      }
      if (!notified && !stop.signal.aborted) await pauseUntilNotified();
    }
  }

  async function pauseUntilNotified(): Promise<void> {
    const woken = new AbortController();
    wake = () => woken.abort();
    await pause(pauseMs(), AbortSignal.any([woken.signal, stop.signal]));
  }

  return {
    notify() {
      notified = true;
      wake();
    },
    async close() {
      stop.abort(options.closeReason);
      await done;
    },
  };
}

async function pause(delayMs: number, signal: AbortSignal): Promise<void> {
  await sleep(delayMs, undefined, { signal, ref: false }).catch(() => {});
}
