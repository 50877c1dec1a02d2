import { setTimeout as sleep } from "node:timers/promises";
import type { EnqueuedFault, FakeOllama, Fault } from "../fakes/ollama/index.ts";
import { POISON } from "./plan.ts";

/** Controls the embedder, one fault at a time. */
export interface EmbedderFaults {
  /** Ends the previous fault, waits for the embedder to recover, and injects the next one. */
  change(fault: Fault): Promise<void>;
  /** Whether the model fails on texts with POISON. */
  poison(on: boolean): void;
  /** Ends all faults for good. */
  clear(): Promise<void>;
  /** Number of requests that met each kind of fault. */
  met(): Readonly<Record<string, number>>;
}

/** How long to wait for a fault that no request meets, or for a recovery that no request needs. */
const PATIENCE_MS = 3_000;
const LOOK_MS = 20;

export function createEmbedderFaults(ollama: FakeOllama): EmbedderFaults {
  const sent: { readonly fault: Fault; readonly queued: EnqueuedFault }[] = [];
  const send = (fault: Fault) => {
    const queued = ollama.faults.enqueue(fault);
    sent.push({ fault, queued });
    return queued;
  };
  let poison: EnqueuedFault | undefined;

  async function end(): Promise<void> {
    const last = sent.findLast(({ fault }) => fault.kind !== "poison");
    if (last === undefined) return;
    await eventually(() => last.queued.hits > 0);
    last.queued.remove();
    // A hung request would hang for another half minute; this is an operator who restarts Ollama.
    if (last.fault.kind === "hang") await ollama.down();
    await ollama.up();
    const from = ollama.requests.length;
    await eventually(() =>
      ollama.requests.slice(from).some(({ path, status }) => path === "/api/embed" && status === 200),
    );
  }

  return {
    async change(fault) {
      await end();
      send(fault);
    },
    poison(on) {
      if (on === (poison !== undefined)) return;
      poison?.remove();
      poison = on ? send({ kind: "poison", textIncludes: POISON }) : undefined;
    },
    async clear() {
      await end();
      ollama.faults.clear();
    },
    met() {
      const counts: Record<string, number> = {};
      for (const { fault, queued } of sent) counts[fault.kind] = (counts[fault.kind] ?? 0) + queued.hits;
      return counts;
    },
  };
}

async function eventually(holds: () => boolean): Promise<void> {
  const deadline = performance.now() + PATIENCE_MS;
  while (!holds() && performance.now() < deadline) await sleep(LOOK_MS);
}
