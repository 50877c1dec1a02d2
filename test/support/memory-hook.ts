import { isMainThread } from "node:worker_threads";

/**
 * Loaded into a server before its own program (`--expose-gc --import`): answers each message of the parent process with
 * what the server holds after a garbage collection. The product itself has no such way in.
 */
if (isMainThread && process.send !== undefined) {
  process.on("message", async () => {
    for (let times = 0; times < 3; times++) {
      globalThis.gc?.();
      await new Promise((resolve) => setImmediate(resolve));
    }
    const { rss, heapUsed, external } = process.memoryUsage();
    const sockets = process.getActiveResourcesInfo().filter((name) => name === "TCPSocketWrap").length;
    process.send?.({ rss, heapUsed, external, sockets });
  });
  // The parent that only listens must not keep the server from ending.
  process.channel?.unref();
}
