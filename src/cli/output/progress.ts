/** Tells how far something has come, on standard error: a bar on a terminal, lines elsewhere. */
export interface Progress {
  /** `done` of `total`, if that is known; `what`: in words, as `12,000 memories`. */
  show(what: string, done?: number, total?: number): void;
  /** Removes the bar. */
  end(): void;
}

interface Output {
  readonly isTTY?: boolean;
  write(text: string): unknown;
}

const BAR_WIDTH = 30;
const BAR_INTERVAL_MS = 100;
const LINE_INTERVAL_MS = 5_000;

export function createProgress(
  output: Output = process.stderr,
  now: () => number = () => performance.now(),
): Progress {
  const terminal = output.isTTY === true;
  const started = now();
  let last = terminal ? Number.NEGATIVE_INFINITY : started;
  let shown = false;
  return {
    show(what, done, total) {
      const time = now();
      if (time - last < (terminal ? BAR_INTERVAL_MS : LINE_INTERVAL_MS)) return;
      last = time;
      const share = done === undefined || !total ? undefined : Math.min(1, done / total);
      const percent = share === undefined ? "" : ` ${Math.floor(share * 100)} %`;
      const seconds = Math.round((time - started) / 1_000);
      if (!terminal) {
        output.write(`${what},${percent}${percent === "" ? "" : ","} ${seconds} s\n`);
        return;
      }
      const filled = Math.round((share ?? 0) * BAR_WIDTH);
      const bar =
        share === undefined ? "" : `[${"#".repeat(filled)}${".".repeat(BAR_WIDTH - filled)}]${percent}  `;
      output.write(`\r\u001b[K${bar}${what}  ${seconds} s`);
      shown = true;
    },
    end() {
      if (shown) output.write("\r\u001b[K");
      shown = false;
    },
  };
}

/** 12345 as 12,345. */
export function formatCount(count: number | bigint): string {
  return count.toLocaleString("en-US");
}

/** "1 memory", "12,345 memories". */
export function formatMemoryCount(count: number | bigint): string {
  return `${formatCount(count)} ${Number(count) === 1 ? "memory" : "memories"}`;
}
