import type { Clock } from "../../src/embedding/clock.ts";

interface Timer {
  readonly at: number;
  readonly callback: () => void;
}

/** A clock that only moves when the test advances it. Timers without delay run automatically. */
export interface ManualClock extends Clock {
  /** Advances the clock and runs due timers in order, each at its own time. */
  advance(ms: number): void;
  /** Returns the milliseconds until each pending timer, soonest first. */
  waiting(): number[];
}

export function createManualClock(): ManualClock {
  let now = 0;
  const timers = new Set<Timer>();
  return {
    now: () => now,
    schedule(delayMs, callback) {
      if (delayMs <= 0) {
        const immediate = setImmediate(callback);
        return () => clearImmediate(immediate);
      }
      const timer = { at: now + delayMs, callback };
      timers.add(timer);
      return () => timers.delete(timer);
    },
    advance(ms) {
      const end = now + ms;
      for (;;) {
        const next = [...timers].sort((a, b) => a.at - b.at).find((timer) => timer.at <= end);
        if (next === undefined) break;
        timers.delete(next);
        now = Math.max(now, next.at);
        next.callback();
      }
      now = end;
    },
    waiting: () => [...timers].map((timer) => timer.at - now).sort((a, b) => a - b),
  };
}
