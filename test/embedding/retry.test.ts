import { describe, expect, it } from "vitest";
import { OllamaError, type RetryAdvice } from "../../src/embedding/ollama/ollama-errors.ts";
import { withRetries } from "../../src/embedding/retry.ts";
import { createManualClock } from "./manual-clock.ts";
import { until } from "./with-fake.ts";

const failure = (retry: RetryAdvice) => new OllamaError("unavailable", "failed", { retry });

/** An attempt that fails with the given errors and then succeeds; counts its calls. */
function attemptThat(...failures: unknown[]) {
  const attempt = async () => {
    const error = failures[attempt.calls++];
    if (error !== undefined) throw error;
    return "done";
  };
  attempt.calls = 0;
  return attempt;
}

describe("withRetries", () => {
  it("waits a random part of 200 ms, then of a second, and fails after three attempts", async () => {
    const clock = createManualClock();
    const attempt = attemptThat(failure("soon"), failure("soon"), failure("soon"));
    const call = withRetries(attempt, { clock, random: () => 0.5 });
    call.catch(() => {});
    for (const wait of [100, 500]) {
      await until(() => clock.waiting().length === 1);
      expect(clock.waiting()).toEqual([wait]);
      clock.advance(wait);
    }
    await expect(call).rejects.toThrow("failed");
    expect(attempt.calls).toBe(3);
  });

  it("retries at once after a stale connection, in addition to the three attempts", async () => {
    const clock = createManualClock();
    const attempt = attemptThat(failure("now"), failure("soon"), failure("now"));
    expect(await withRetries(attempt, { clock, random: () => 0 })).toBe("done");
    expect(attempt.calls).toBe(4);
  });

  it.each([
    ["advises against it", failure("no")],
    ["is no OllamaError", new Error("defect")],
  ])("does not repeat what fails with an error that %s", async (_, error) => {
    const attempt = attemptThat(error);
    await expect(withRetries(attempt, { clock: createManualClock() })).rejects.toBe(error);
    expect(attempt.calls).toBe(1);
  });

  it("stops when the error cannot be retried", async () => {
    const attempt = attemptThat(failure("soon"));
    const options = { clock: createManualClock(), mayRetry: () => false };
    await expect(withRetries(attempt, options)).rejects.toThrow("failed");
  });

  it("stops waiting when the signal aborts", async () => {
    const clock = createManualClock();
    const leaving = new AbortController();
    const call = withRetries(attemptThat(failure("soon")), {
      clock,
      random: () => 1,
      signal: leaving.signal,
    });
    call.catch(() => {});
    await until(() => clock.waiting().length === 1);
    leaving.abort(new Error("gone"));
    await expect(call).rejects.toThrow("gone");
    expect(clock.waiting()).toEqual([]);
  });
});
