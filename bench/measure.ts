/** Results of callers that sent one request after another for some time. */
export interface LoadResult {
  readonly callers: number;
  readonly calls: number;
  readonly failures: number;
  readonly seconds: number;
  readonly perSecond: number;
  readonly p50Ms: number;
  readonly p95Ms: number;
  readonly p99Ms: number;
}

export interface LoadOptions {
  readonly callers: number;
  /** Stops after this time ... */
  readonly seconds?: number;
  /** ... or after this number of calls. */
  readonly calls?: number;
  /** Sends the n-th call, counted over all callers from 0. */
  readonly call: (n: number) => Promise<unknown>;
  /** Receives every failure; without it, the first one ends the measurement. */
  readonly onFailure?: (error: unknown, n: number) => void;
}

/** Runs `callers` concurrently, each with one call at a time. */
export async function measureLoad(options: LoadOptions): Promise<LoadResult> {
  const { callers, seconds = Number.POSITIVE_INFINITY, calls = Number.POSITIVE_INFINITY } = options;
  const times: number[] = [];
  let next = 0;
  let failures = 0;
  const begin = performance.now();
  const end = begin + seconds * 1_000;

  async function askOneAfterTheOther(): Promise<void> {
    while (next < calls && performance.now() < end) {
      const n = next++;
      const start = performance.now();
      try {
        await options.call(n);
        times.push(performance.now() - start);
      } catch (error) {
        if (options.onFailure === undefined) throw error;
        failures++;
        options.onFailure(error, n);
      }
    }
  }

  await Promise.all(Array.from({ length: callers }, askOneAfterTheOther));
  const took = (performance.now() - begin) / 1_000;
  times.sort((a, b) => a - b);
  return {
    callers,
    calls: times.length,
    failures,
    seconds: took,
    perSecond: times.length / took,
    p50Ms: percentile(times, 50),
    p95Ms: percentile(times, 95),
    p99Ms: percentile(times, 99),
  };
}

/** Returns the smallest value that at least `percent` of the ascending values do not exceed; NaN without values. */
export function percentile(ascending: readonly number[], percent: number): number {
  return ascending[Math.max(0, Math.ceil((ascending.length * percent) / 100) - 1)] ?? Number.NaN;
}
