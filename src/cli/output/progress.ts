/** Shows the progress of a command on standard error: as a bar on a terminal, as lines elsewhere. */
export interface Progress {
  /** Shows a text such as `12,000 memories`, with the share of `total` that is done if both are known. */
  show(text: string, done?: number, total?: number): void;
  /** Removes the bar. */
  clear(): void;
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
    show(text, done, total) {
      const time = now();
      if (time - last < (terminal ? BAR_INTERVAL_MS : LINE_INTERVAL_MS)) return;
      last = time;
      const share = done === undefined || !total ? undefined : Math.min(1, done / total);
      const percent = share === undefined ? "" : ` ${Math.floor(share * 100)} %`;
      const seconds = Math.round((time - started) / 1_000);
      if (!terminal) {
        output.write(`${text},${percent}${percent === "" ? "" : ","} ${seconds} s\n`);
        return;
      }
      const filled = Math.round((share ?? 0) * BAR_WIDTH);
      const bar =
        share === undefined ? "" : `[${"#".repeat(filled)}${".".repeat(BAR_WIDTH - filled)}]${percent}  `;
      output.write(`\r\u001b[K${bar}${text}  ${seconds} s`);
      shown = true;
    },
    clear() {
      if (shown) output.write("\r\u001b[K");
      shown = false;
    },
  };
}
