/**
 * Returns an AbortSignal that the first SIGINT or SIGTERM aborts. A second signal ends the process as usual. `stop`
 * removes the listeners.
 */
export function abortOnSignal(): { readonly signal: AbortSignal; stop(): void } {
  const controller = new AbortController();
  const abort = () => controller.abort();
  process.once("SIGINT", abort).once("SIGTERM", abort);
  return {
    signal: controller.signal,
    stop: () => void process.off("SIGINT", abort).off("SIGTERM", abort),
  };
}
