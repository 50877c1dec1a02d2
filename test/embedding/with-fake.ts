import { onTestFinished } from "vitest";
import { type FakeOllama, type FakeOllamaOptions, startFakeOllama } from "../../qa/fakes/ollama/index.ts";
import {
  createOllamaEmbedder,
  type OllamaEmbedder,
  type OllamaEmbedderOptions,
} from "../../src/embedding/ollama/ollama-embedder.ts";
import { createManualClock, type ManualClock } from "./manual-clock.ts";
import { createRecordingLogger, type RecordingLogger } from "./recording-logger.ts";

export interface Bench {
  readonly fake: FakeOllama;
  readonly embedder: OllamaEmbedder;
  readonly clock: ManualClock;
  readonly log: RecordingLogger;
  /** Number of requests to /api/embed so far. */
  embeds(): number;
  /** Texts of each request to /api/embed, without the embedder's own probes. */
  batches(): string[][];
}

/** Starts a fake Ollama and an embedder on it, with a clock that stands still; both close when the test ends. */
export async function startBench(
  fakeOptions: FakeOllamaOptions & { readonly prepare?: (fake: FakeOllama) => void | Promise<void> } = {},
  options: Partial<OllamaEmbedderOptions> = {},
): Promise<Bench> {
  const { prepare, ...rest } = fakeOptions;
  const fake = await startFakeOllama(rest);
  await prepare?.(fake);
  const clock = createManualClock();
  const log = createRecordingLogger();
  const embedder = createOllamaEmbedder({
    url: fake.url,
    model: "nomic-embed-text",
    pull: false,
    logger: log,
    clock,
    random: () => 0,
    ...options,
  });
  onTestFinished(async () => {
    await embedder.close();
    await fake.close();
  });
  const sent = () => fake.requests.filter((request) => request.path === "/api/embed");
  return {
    fake,
    embedder,
    clock,
    log,
    embeds: () => sent().length,
    batches: () =>
      sent()
        .map((request) => textsOf(request.json).filter((text) => !PROBE_TEXTS.includes(text)))
        .filter((texts) => texts.length > 0),
  };
}

/** Starts a bench like `startBench` and waits until the embedder is ready. */
export async function startReadyBench(...parameters: Parameters<typeof startBench>): Promise<Bench> {
  const bench = await startBench(...parameters);
  await bench.log.whenLogged(/is ready$/);
  return bench;
}

/** Resolves the next time the embedder reports that it is available. */
export function whenAvailable(embedder: OllamaEmbedder): Promise<void> {
  return new Promise((resolve) => {
    const stop = embedder.onAvailable(() => {
      stop();
      resolve();
    });
  });
}

/** Resolves when the embedder only waits for its next check. */
export function whenIdle({ clock }: Bench): Promise<void> {
  return until(() => {
    const [next = 0, ...more] = clock.waiting();
    // Requests have timeouts of 5 s, of 120 s, or of 30 s plus some for their texts.
    return more.length === 0 && next > 0 && (next <= 2_000 || next === 30_000);
  });
}

/** Texts of the embedder's own probes; batches start with the first of them. */
const PROBE_TEXTS = ["a canary sings", "interest rates rose again in march"];

function textsOf(json: unknown): string[] {
  return typeof json === "object" && json !== null && "input" in json && Array.isArray(json.input)
    ? json.input
    : [];
}

/** Resolves once `condition` holds; checks after each round of the event loop, so it needs no fixed wait. */
export async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setImmediate(resolve));
}
