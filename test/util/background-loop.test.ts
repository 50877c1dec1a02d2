import { expect, test, vi } from "vitest";
import { startBackgroundLoop } from "../../src/util/background-loop.ts";

const HOUR_MS = 3_600_000;

test("runs at once, then whenever it is notified", async () => {
  const rounds: boolean[] = [];
  const loop = startBackgroundLoop({
    run: async (_, notified) => void rounds.push(notified),
    onError: () => {},
    pauseMs: () => HOUR_MS,
  });
  await vi.waitFor(() => expect(rounds).toEqual([true]));
  loop.notify();
  await vi.waitFor(() => expect(rounds).toEqual([true, true]));
  await loop.close();
});

test("runs after each pause", async () => {
  const rounds: boolean[] = [];
  const loop = startBackgroundLoop({
    run: async (_, notified) => void rounds.push(notified),
    onError: () => {},
    pauseMs: () => 1,
  });
  await vi.waitFor(() => expect(rounds.slice(0, 3)).toEqual([true, false, false]));
  await loop.close();
});

test("runs again without a pause if it is notified during a round", async () => {
  const first = Promise.withResolvers<void>();
  let rounds = 0;
  const loop = startBackgroundLoop({
    async run() {
      rounds++;
      if (rounds === 1) await first.promise;
    },
    onError: () => {},
    pauseMs: () => HOUR_MS,
  });
  loop.notify();
  expect(rounds).toBe(1);
  first.resolve();
  await vi.waitFor(() => expect(rounds).toBe(2));
  await loop.close();
});

test("reports a failed round and retries it", async () => {
  const errors: unknown[] = [];
  let rounds = 0;
  const loop = startBackgroundLoop({
    async run() {
      rounds++;
      if (rounds < 3) throw new Error(`round ${rounds}`);
    },
    onError: (error) => void errors.push(error),
    pauseMs: () => HOUR_MS,
    retryMs: 1,
  });
  await vi.waitFor(() => expect(rounds).toBe(3));
  expect(errors).toEqual([new Error("round 1"), new Error("round 2")]);
  await loop.close();
});

test("aborts the running round with the reason when it is closed, and reports nothing", async () => {
  const onError = vi.fn();
  const reason = new Error("closing");
  const seen: unknown[] = [];
  const loop = startBackgroundLoop({
    run: (signal) =>
      new Promise((_, reject) =>
        signal.addEventListener("abort", () => {
          seen.push(signal.reason);
          reject(signal.reason);
        }),
      ),
    onError,
    pauseMs: () => HOUR_MS,
    closeReason: reason,
  });
  await loop.close();
  expect(seen).toEqual([reason]);
  expect(onError).not.toHaveBeenCalled();
});
