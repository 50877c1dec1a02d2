/** Steps that close resources in reverse order. Node 24 has AsyncDisposableStack for this. */
export interface Cleanup {
  /** Adds a step, which runs before the steps added earlier. */
  defer(step: () => Promise<void>): void;
  /** Runs every step once, even if one fails, and then throws the first failure. Idempotent. */
  run(): Promise<void>;
}

export function createCleanup(): Cleanup {
  const steps: (() => Promise<void>)[] = [];
  let running: Promise<void> | undefined;

  async function runAll(): Promise<void> {
    const failures: unknown[] = [];
    for (const step of steps.reverse()) {
      await step().catch((error: unknown) => failures.push(error));
    }
    if (failures.length > 0) throw failures[0];
  }

  return {
    defer(step) {
      steps.push(step);
    },
    run() {
      running ??= runAll();
      return running;
    },
  };
}
