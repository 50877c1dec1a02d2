import type { PullProgress } from "./ollama-client.ts";

const PERCENT_STEP = 10;

/** Reduces the thousands of progress lines of a download to one call for every ten percent. */
export function createPullProgressLog(report: (percent: number) => void): (progress: PullProgress) => void {
  let reported = -1;
  return ({ completedBytes, totalBytes }) => {
    if (totalBytes === 0) return;
    // The first layer is almost the whole model. The percentage never decreases when a small layer follows.
    const percent = Math.floor((completedBytes / totalBytes) * (100 / PERCENT_STEP)) * PERCENT_STEP;
    if (percent <= reported) return;
    reported = percent;
    report(percent);
  };
}
