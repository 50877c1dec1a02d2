import { Code, MemoryServiceError, memoryServiceErrorFrom, type Protocol } from "memory-service-client";
import type { Memory } from "memory-service-client/memoryservice/v1/memory_pb.js";
import { EmbeddingMode, IfExists } from "memory-service-client/memoryservice/v1/memory_service_pb.js";
import type { Held, Ledger } from "./ledger.ts";
import type { Draft, Operation } from "./plan.ts";
import { createRetryingClient, type RetryingClient } from "./retrying-client.ts";

/** Counts of what the clients have done. */
export interface LoadCounts {
  /** Memories whose storing was acknowledged; likewise for the next two. */
  stored: number;
  updated: number;
  deleted: number;
  reads: number;
  /** Retried calls. */
  retries: number;
  /** Memories that a client no longer writes, because all retries left the outcome of a call unknown. */
  unknown: number;
  /** Operations skipped because an earlier one on the same memory has an unknown outcome. */
  skipped: number;
  /** Reads that did not return the expected content. */
  readonly wrongReads: string[];
  /** Failures that no injected fault explains. */
  readonly unexpected: string[];
}

/** Running clients. */
export interface Load {
  readonly counts: LoadCounts;
  /** Number of operations that have ended, successfully or not. */
  finished(): number;
  /** Resolves when this many operations have ended, or all of them. */
  reaches(finished: number): Promise<void>;
  /** Raises the number of operations that may begin. */
  allow(operations: number): void;
  /** Resolves when every operation has ended. */
  readonly done: Promise<void>;
}

const PROTOCOLS: readonly Protocol[] = ["grpc", "connect", "grpc", "grpc-web"];

/** Most clients send a write that failed after all its retries again with the same id; every fourth client does not. */
const PATIENT_ROUNDS = 10;

/** Starts one client for each list of operations. @param allowed how many operations may begin at first */
export function startLoad(options: {
  readonly url: string;
  readonly domain: string;
  readonly operations: readonly (readonly Operation[])[];
  readonly ledger: Ledger;
  readonly allowed: number;
}): Load {
  const { url, operations } = options;
  const counts: LoadCounts = {
    stored: 0,
    updated: 0,
    deleted: 0,
    reads: 0,
    retries: 0,
    unknown: 0,
    skipped: 0,
    wrongReads: [],
    unexpected: [],
  };
  let { allowed } = options;
  let begun = 0;
  let finished = 0;
  let changed = Promise.withResolvers<void>();
  const change = () => {
    changed.resolve();
    changed = Promise.withResolvers();
  };

  async function work(own: readonly Operation[], n: number): Promise<void> {
    const client = createRetryingClient(url, PROTOCOLS[n % PROTOCOLS.length] ?? "grpc");
    const writer = createWriter({ ...options, client, counts, rounds: n % 4 === 3 ? 1 : PATIENT_ROUNDS });
    for (const operation of own) {
      while (begun >= allowed) await changed.promise;
      begun++;
      await writer.run(operation);
      finished++;
      change();
    }
    client.close();
  }

  const done = Promise.all(operations.map(work)).then(() => {});
  done.catch(() => {});
  return {
    counts,
    done,
    finished: () => finished,
    async reaches(wanted) {
      while (finished < wanted) await Promise.race([changed.promise, done]);
    },
    allow(more) {
      allowed = more;
      change();
    },
  };
}

/** Runs one operation at a time and records its outcome. */
function createWriter(options: {
  readonly client: RetryingClient;
  readonly domain: string;
  readonly ledger: Ledger;
  readonly counts: LoadCounts;
  /** How often a write is sent, each time with all its retries. */
  readonly rounds: number;
}) {
  const { client, domain, ledger, counts, rounds } = options;
  const { client: memories, repeat } = client;
  const raw = memories.raw.memories;
  /** Last acknowledged state by id. */
  const versions = new Map<string, bigint>();
  /** Attempts of the current operation without retries, and the attempt count when it began. */
  let calls = 0;
  let before = 0;
  const repeated = () => client.attempts() - before > calls;

  /** Sends a write and records its outcome in the ledger. Returns whether it was acknowledged. */
  async function write(targets: readonly { id: string; held: Held }[], call: () => Promise<void>) {
    calls = 1;
    for (let round = 1; ; round++) {
      try {
        await call();
        for (const { id, held } of targets) ledger.acknowledge(id, held);
        return true;
      } catch (caught) {
        if (!(caught instanceof MemoryServiceError)) throw caught;
        if (!isExplained(caught)) counts.unexpected.push(describe(caught));
        else if (round < rounds) continue;
        for (const { id, held } of targets) ledger.leaveOpen(id, held);
        counts.unknown += targets.length;
        return false;
      }
    }
  }

  function remember(memory: Memory | undefined): void {
    if (memory !== undefined) versions.set(memory.id, memory.version);
  }

  async function store(drafts: readonly Draft[], background: boolean): Promise<void> {
    const embeddingMode = background ? EmbeddingMode.BACKGROUND : EmbeddingMode.INLINE;
    const items = drafts.map((draft) => ({ ...draft, domain, embeddingMode }));
    const [only] = items;
    const targets = drafts.map(({ id, content }) => ({ id, held: content }));
    const done = await write(targets, async () => {
      if (only !== undefined && items.length === 1) return remember((await memories.store(only)).memory);
      const { results } = await repeat((own) => raw.batchStore({ items, atomic: true }, own));
      for (const { result } of results) if (result.case === "success") remember(result.value.memory);
    });
    if (done) counts.stored += drafts.length;
  }

  async function update({ id, content }: Draft, way: "blind" | "expecting" | "replacing"): Promise<void> {
    const expectedVersion = way === "expecting" ? versions.get(id) : undefined;
    const done = await write([{ id, held: content }], async () => {
      if (way === "replacing") {
        const { memory } = await memories.store({ id, content, domain, ifExists: IfExists.REPLACE });
        return remember(memory);
      }
      const request = {
        memory: { id, content, domain },
        updateMask: { paths: ["content"] },
        ...(expectedVersion !== undefined && { expectedVersion }),
      };
      try {
        remember((await repeat((own) => raw.update(request, own))).memory);
      } catch (caught) {
        const { reason } = memoryServiceErrorFrom(caught);
        // An earlier attempt may have taken effect: read the memory and decide again.
        if (reason !== "VERSION_MISMATCH" || !repeated()) throw caught;
        calls++;
        const { memory } = await repeat((own) => raw.get({ id, domain }, own));
        if (memory?.content !== content) throw caught;
        remember(memory);
      }
    });
    if (done) counts.updated++;
  }

  async function remove(id: string): Promise<void> {
    const done = await write([{ id, held: undefined }], async () => {
      const { deleted } = await repeat((own) => raw.delete({ id, domain, allowMissing: true }, own));
      if (!deleted && client.attempts() === before + 1)
        counts.wrongReads.push(`${id} to be deleted: missing`);
    });
    if (done) counts.deleted++;
  }

  async function read(id: string): Promise<void> {
    calls = 1;
    let held: Held;
    try {
      held = (await repeat((own) => raw.get({ id, domain }, own))).memory?.content;
    } catch (caught) {
      const error = memoryServiceErrorFrom(caught);
      if (error.reason !== "MEMORY_NOT_FOUND") {
        if (!isExplained(error)) counts.unexpected.push(describe(error));
        return;
      }
    }
    counts.reads++;
    if (!ledger.possible(id).includes(held)) counts.wrongReads.push(`${id}: ${held ?? "missing"}`);
  }

  return {
    async run(operation: Operation): Promise<void> {
      calls = 0;
      before = client.attempts();
      const { kind } = operation;
      const id = kind === "update" ? operation.draft.id : kind === "store" ? undefined : operation.id;
      // The last request may still take effect.
      if (id !== undefined && kind !== "read" && ledger.possible(id).length > 1) counts.skipped++;
      else if (kind === "store") await store(operation.drafts, operation.background);
      else if (kind === "update") await update(operation.draft, operation.way);
      else if (kind === "delete") await remove(operation.id);
      else await read(operation.id);
      counts.retries += client.attempts() - before - calls;
    },
  };
}

/** Returns true if an unavailable or slow server or database explains the failure. */
function isExplained({ code, reason, retryAfterMs }: MemoryServiceError): boolean {
  return (
    code === Code.Unavailable ||
    code === Code.DeadlineExceeded ||
    reason === "CONFLICT" ||
    (code === Code.ResourceExhausted && retryAfterMs !== undefined)
  );
}

function describe(error: MemoryServiceError): string {
  return `${Code[error.code]} ${error.reason ?? ""}: ${error.message} (${error.requestId ?? "no request id"})`;
}
