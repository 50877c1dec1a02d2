import { describe, expect, it } from "vitest";
import type { Era, Fault, FaultKind } from "../../../qa/fakes/ollama/index.ts";
import { EmbedError, type EmbedFailureKind } from "../../../src/memory/model/embedder.ts";
import { type Bench, startBench, startReadyBench, until, whenAvailable } from "../with-fake.ts";

/**
 * The outcome of `embed`: `good` are exactly the embeddings of a healthy server; `plausible` ones are well-formed but
 * different, which no client can detect from one answer.
 */
type Outcome = "good" | "plausible" | EmbedFailureKind;

interface Row {
  readonly fault: FaultKind;
  /** The outcome after one fault. */
  readonly once: Outcome;
  /** While the fault lasts. */
  readonly always: Outcome;
  readonly era?: Era;
  /** The server does not answer, so the test has to advance the clock. */
  readonly silent?: boolean;
}

const ROWS: Record<FaultKind["kind"], readonly Row[]> = {
  down: [{ fault: { kind: "down" }, once: "unavailable", always: "unavailable" }],
  slow: [{ fault: { kind: "slow", ms: 5 }, once: "good", always: "good" }],
  notFound: [{ fault: { kind: "notFound" }, once: "model-missing", always: "model-missing" }],
  busy: [{ fault: { kind: "busy" }, once: "good", always: "unavailable" }],
  eof: [
    { fault: { kind: "eof" }, once: "good", always: "unavailable" },
    // Halving the batch leaves no third text to crash at.
    { fault: { kind: "eof", at: 2 }, once: "good", always: "good" },
    { fault: { kind: "eof" }, era: "v012", once: "good", always: "unavailable" },
    { fault: { kind: "eof" }, era: "v06", once: "good", always: "unavailable" },
  ],
  serverError: [
    { fault: { kind: "serverError" }, once: "good", always: "unavailable" },
    {
      fault: { kind: "serverError", status: 400, text: "something new" },
      once: "good",
      always: "unavailable",
    },
    { fault: { kind: "serverError", status: 403, text: "" }, once: "unavailable", always: "unavailable" },
    { fault: { kind: "serverError", status: 429, text: "slow down" }, once: "good", always: "unavailable" },
    {
      fault: { kind: "serverError", status: 501, text: "this model does not support embeddings" },
      once: "model-missing",
      always: "model-missing",
    },
  ],
  nan: [
    { fault: { kind: "nan" }, once: "good", always: "unavailable" },
    { fault: { kind: "nan" }, era: "v024", once: "good", always: "unavailable" },
  ],
  nan400: [{ fault: { kind: "nan400" }, once: "good", always: "unavailable" }],
  poison: [
    { fault: { kind: "poison", textIncludes: "database" }, once: "good", always: "rejected" },
    { fault: { kind: "poison", textIncludes: "database" }, era: "v024", once: "good", always: "rejected" },
  ],
  zeros: [{ fault: { kind: "zeros" }, once: "good", always: "unavailable" }],
  nulls: [{ fault: { kind: "nulls" }, once: "good", always: "unavailable" }],
  strings: [{ fault: { kind: "strings" }, once: "good", always: "unavailable" }],
  wrongCount: [
    { fault: { kind: "wrongCount" }, once: "good", always: "unavailable" },
    { fault: { kind: "wrongCount", delta: 1 }, once: "good", always: "unavailable" },
    { fault: { kind: "wrongCount", form: "empty" }, once: "good", always: "unavailable" },
    { fault: { kind: "wrongCount", form: "nullVector" }, once: "good", always: "unavailable" },
    { fault: { kind: "wrongCount", form: "missing" }, once: "good", always: "unavailable" },
    { fault: { kind: "wrongCount", form: "legacyKey" }, once: "good", always: "unavailable" },
  ],
  wrongDim: [
    { fault: { kind: "wrongDim", dims: 512 }, once: "good", always: "unavailable" },
    { fault: { kind: "wrongDim", dims: 1024, at: 1 }, once: "good", always: "unavailable" },
  ],
  dimDrift: [{ fault: { kind: "dimDrift", dims: 512 }, once: "good", always: "unavailable" }],
  swap: [{ fault: { kind: "swap" }, once: "good", always: "unavailable" }],
  constant: [{ fault: { kind: "constant" }, once: "good", always: "unavailable" }],
  notUnit: [
    { fault: { kind: "notUnit", scale: 1.5 }, once: "good", always: "good" },
    { fault: { kind: "notUnit", scale: 21.7 }, once: "good", always: "unavailable" },
  ],
  drift: [{ fault: { kind: "drift", angle: 0.3 }, once: "good", always: "unavailable" }],
  caseBug: [{ fault: { kind: "caseBug" }, once: "good", always: "good" }],
  garbage: (["html", "empty", "truncated", "nanLiteral", "huge", "errorInOk"] as const).map((form) => ({
    fault: { kind: "garbage", form },
    once: "good",
    always: "unavailable",
  })),
  wrongType: [
    { fault: { kind: "wrongType" }, once: "good", always: "unavailable" },
    { fault: { kind: "wrongType", form: "proxy" }, once: "good", always: "unavailable" },
  ],
  hang: (["answer", "headers", "body"] as const).map((phase) => ({
    fault: { kind: "hang", phase },
    once: "unavailable",
    always: "unavailable",
    silent: true,
  })),
  drip: [
    { fault: { kind: "drip", bytesPerSec: 1 }, once: "unavailable", always: "unavailable", silent: true },
  ],
  reset: (["headers", "body"] as const).map((phase) => ({
    fault: { kind: "reset", phase },
    once: "good",
    always: "unavailable",
  })),
  close: (["headers", "body"] as const).map((phase) => ({
    fault: { kind: "close", phase },
    once: "good",
    always: "unavailable",
  })),
  staleKeepAlive: [{ fault: { kind: "staleKeepAlive" }, once: "good", always: "good" }],
  redirect: [{ fault: { kind: "redirect" }, once: "unavailable", always: "unavailable" }],
};

const rows = Object.values(ROWS).flat();
const title = ({ fault, era }: Row) => `${JSON.stringify(fault)}${era === undefined ? "" : ` of era ${era}`}`;

const TEXTS = ["Deploy on Friday", "the DATABASE password", "Coffee for Grandma"] as const;

describe("a fault of Ollama", () => {
  it.each(rows.map((row) => [title(row), row.once, row] as const))(
    "%s, once: %s",
    async (_, expected, row) => {
      const bench = await startReadyBench(eraOf(row));
      bench.fake.faults.enqueue({ ...onEmbed(row.fault), times: 1 });
      expect(await outcomeOf(bench, row)).toBe(expected);
    },
  );

  it.each(rows.map((row) => [title(row), row.always, row] as const))(
    "%s, lasting: %s, and good when it has ended",
    async (_, expected, row) => {
      const bench = await startReadyBench(eraOf(row));
      const lasting = bench.fake.faults.enqueue({ ...onEmbed(row.fault), times: 1_000 });
      expect(await outcomeOf(bench, row)).toBe(expected);
      expect(await outcomeOf(bench, row), "again").toBe(expected);
      lasting.remove();
      await bench.fake.up();
      await untilReady(bench);
      expect(await outcomeOf(bench), "afterwards").toBe("good");
    },
  );

  // If the engine has drifted before the first check, that engine is the reference.
  const atStart = rows.filter(
    ({ always, fault }) => !["good", "plausible", "rejected"].includes(always) && fault.kind !== "drift",
  );
  it.each(atStart.map((row) => [title(row), row] as const))(
    "%s at the first look: not available, and available when it has ended",
    async (_, row) => {
      const bench = await startBench({
        ...eraOf(row),
        prepare: (fake) => {
          fake.faults.enqueue({ ...onEmbed(row.fault), times: 1_000 });
        },
      });
      expect(["unavailable", "model-missing"]).toContain(await outcomeOf(bench, row));
      expect(bench.embedder.status().available).toBe(false);
      expect(bench.embedder.space()).toBeUndefined();
      bench.fake.faults.clear();
      await bench.fake.up();
      await untilReady(bench);
      expect(await outcomeOf(bench)).toBe("good");
    },
  );
});

function eraOf({ era }: Row) {
  return era === undefined ? {} : { era };
}

function onEmbed(fault: FaultKind): Fault {
  return { ...fault, match: { path: "/api/embed" } };
}

async function untilReady({ embedder, clock }: Bench): Promise<void> {
  if (embedder.status().available) return;
  let available = false;
  whenAvailable(embedder).then(() => {
    available = true;
  });
  await until(() => {
    // Only the wait for the next check is shortened, never a running request.
    const next = clock.waiting();
    if (next.length === 1 && (next[0] ?? Infinity) <= 2_000) clock.advance(next[0] ?? 0);
    return available;
  });
}

async function outcomeOf({ embedder, fake, clock, embeds }: Bench, row?: Row): Promise<Outcome> {
  let settled = false;
  const before = embeds();
  const call = embedder.embed(TEXTS, "document").finally(() => {
    settled = true;
  });
  if (row?.silent) {
    call.catch(() => {});
    await until(() => settled || embeds() > before || (embeds() > 0 && embedder.space() === undefined));
    clock.advance(121_000);
  }
  let embeddings: Float32Array[];
  try {
    embeddings = await call;
  } catch (error) {
    expect(error).toBeInstanceOf(EmbedError);
    return error instanceof EmbedError ? error.kind : "unavailable";
  }
  expect(embeddings).toHaveLength(TEXTS.length);
  for (const embedding of embeddings) {
    expect(embedding).toBeInstanceOf(Float32Array);
    expect(embedding).toHaveLength(768);
    expect(Math.hypot(...embedding)).toBeCloseTo(1, 5);
  }
  const same = embeddings.every((embedding, i) => {
    const wanted = fake.embedding(`search_document: ${TEXTS[i]?.toLowerCase()}`);
    return embedding.every((value, at) => Math.abs(value - (wanted[at] ?? Number.NaN)) < 1e-6);
  });
  return same ? "good" : "plausible";
}
