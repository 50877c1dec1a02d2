/** A signal that is aborted by SIGINT and SIGTERM, once: a second one ends the process as ever. */
export function abortOnSignal(): { readonly signal: AbortSignal; end(): void } {
  const controller = new AbortController();
  const abort = () => controller.abort();
  process.once("SIGINT", abort).once("SIGTERM", abort);
  return {
    signal: controller.signal,
    end: () => void process.off("SIGINT", abort).off("SIGTERM", abort),
  };
}
