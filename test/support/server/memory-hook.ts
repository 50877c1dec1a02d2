import { BroadcastChannel, isMainThread } from "node:worker_threads";

/**
 * Loaded into a server before its own program (`--expose-gc --import`), in each of its threads: answers each message of the
 * parent process with what the server holds after a garbage collection of all of them. The product itself has no such way
 * in.
 */
const channel = new BroadcastChannel("garbage collection");
channel.unref();

/** A statement of the embedded engine may be under way: its thread answers when that is over. */
const collectMs = 5_000;

/**
 * The collection of last resort also gives back the pages that V8 has emptied and would keep for later: 105 of 278 MiB in a
 * server under load, which is as much as its heap ever held between two collections and says nothing of what it holds.
 */
async function collect(): Promise<void> {
  for (let times = 0; times < 3; times++) {
    globalThis.gc?.({ type: "major", execution: "sync", flavor: "last-resort" });
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

/** Resolves when a thread beside this one has collected its garbage, or when none has said so in time. */
function collectElsewhere(): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, collectMs);
    channel.onmessage = () => {
      clearTimeout(timer);
      resolve();
    };
    channel.postMessage("collect");
  });
}

if (isMainThread && process.send !== undefined) {
  process.on("message", async () => {
    await collectElsewhere();
    await collect();
    const { rss, heapUsed, external } = process.memoryUsage();
    const sockets = process.getActiveResourcesInfo().filter((name) => name === "TCPSocketWrap").length;
    process.send?.({ rss, heapUsed, external, sockets });
  });
  // The parent that only listens must not keep the server from ending.
  process.channel?.unref();
} else if (!isMainThread) {
  channel.onmessage = async () => {
    await collect();
    channel.postMessage("collected");
  };
}
