import { describe, expect, it } from "vitest";
import { type CircuitState, createCircuitBreaker } from "../../src/embedding/circuit-breaker.ts";
import { createManualClock } from "./manual-clock.ts";

function start() {
  const clock = createManualClock();
  const states: CircuitState[] = [];
  const breaker = createCircuitBreaker({ clock, onChange: (state) => states.push(state) });
  return { clock, states, breaker };
}

describe("circuit breaker", () => {
  it("opens after three failures in a row", () => {
    const { breaker } = start();
    breaker.failed();
    breaker.failed();
    breaker.succeeded();
    breaker.failed();
    breaker.failed();
    expect(breaker.state).toBe("closed");
    breaker.failed();
    expect(breaker.state).toBe("open");
  });

  it("opens at once for a failure that took long", () => {
    const { breaker } = start();
    breaker.failed({ trip: true });
    expect(breaker.state).toBe("open");
  });

  it("lets a single probe through, after the back-off", () => {
    const { breaker, clock } = start();
    breaker.failed({ trip: true });
    expect(breaker.tryProbe()).toBe(false);
    clock.advance(999);
    expect(breaker.tryProbe()).toBe(false);
    clock.advance(1);
    expect(breaker.tryProbe()).toBe(true);
    expect(breaker.state).toBe("half-open");
    expect(breaker.tryProbe()).toBe(false);
  });

  it("doubles the back-off with each failed probe, up to 30 seconds", () => {
    const { breaker, clock } = start();
    breaker.failed({ trip: true });
    const waits = Array.from({ length: 7 }, () => {
      const wait = breaker.retryInMs;
      clock.advance(wait);
      expect(breaker.tryProbe()).toBe(true);
      breaker.failed();
      return wait;
    });
    expect(waits).toEqual([1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000]);
  });

  it("closes after a successful probe and resets the back-off", () => {
    const { breaker, clock, states } = start();
    breaker.failed({ trip: true });
    clock.advance(1_000);
    breaker.tryProbe();
    breaker.failed();
    clock.advance(2_000);
    breaker.tryProbe();
    breaker.succeeded();
    expect(breaker.retryInMs).toBe(0);
    breaker.failed({ trip: true });
    expect(breaker.retryInMs).toBe(1_000);
    expect(states).toEqual(["open", "half-open", "open", "half-open", "closed", "open"]);
  });

  it("allows another probe at once after an inconclusive one", () => {
    const { breaker, clock } = start();
    breaker.failed({ trip: true });
    clock.advance(1_000);
    breaker.tryProbe();
    breaker.abandoned();
    expect(breaker.state).toBe("open");
    expect(breaker.tryProbe()).toBe(true);
  });

  it("allows a probe at once when asked to hurry", () => {
    const { breaker } = start();
    breaker.failed({ trip: true });
    breaker.hurry();
    expect(breaker.tryProbe()).toBe(true);
  });
});
