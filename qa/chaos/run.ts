import { hash } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { createMemoryClient } from "memory-service-client";
import { prepareText } from "../../src/embedding/model-profile.ts";
import { profileForModel } from "../../src/embedding/model-profiles.ts";
import { createDataDirectory } from "../../test/support/postgres/data-directory.ts";
import { type NativePostgres, startNativePostgres } from "../../test/support/postgres/native-postgres.ts";
import {
  type ServerProcess,
  startProgram,
  startServerProcess,
} from "../../test/support/server/server-process.ts";
import { type FakeOllama, startFakeOllama } from "../fakes/ollama/index.ts";
import { type Findings, findViolations } from "./check.ts";
import { createEmbedderFaults } from "./embedder-faults.ts";
import { findMissingFromSearch, readMemories } from "./found-memories.ts";
import { createLedger } from "./ledger.ts";
import { type LoadCounts, startLoad } from "./load.ts";
import { planOperations, type Size } from "./plan.ts";
import { type Incident, planIncidents, type Trouble } from "./schedule.ts";
import { settle } from "./settle.ts";

export interface ChaosOptions {
  readonly engine: "embedded" | "postgres";
  readonly size: Size;
  /** `stops` has no effect on the embedded engine. */
  readonly trouble: Trouble;
  readonly seed: number;
  /** Receives a line for each step. */
  readonly progress: (line: string) => void;
}

/** The counts and violations of a run. */
export interface ChaosResult {
  readonly engine: "embedded" | "postgres";
  readonly seconds: number;
  readonly load: LoadCounts;
  readonly kills: number;
  /** Number of further servers killed while they started. */
  readonly starts: number;
  readonly stops: number;
  /** Number of requests that met each kind of embedder fault. */
  readonly faults: Readonly<Record<string, number>>;
  /** Number of failed memories that were retried. */
  readonly retriedMemories: number;
  /** Number of memories present at the end. */
  readonly found: number;
  readonly findings: Findings;
  /** Sampled memories that a full-text search does not find. */
  readonly unfindable: readonly string[];
  /** Exits of servers that the run did not kill. */
  readonly crashes: readonly string[];
}

const DOMAIN = "chaos";
const MODEL = "nomic-embed-text";
/** Maximum wait for the embeddings once all faults are over: a memory may have to wait for its next attempt. */
const SETTLE_MS = 180_000;
/** The share of the operations after which a model starts to fail on some texts. */
const POISON_FROM = 0.05;
/** Sample size for the full-text search check. */
const SEARCHED = 300;
/** Short, so that an unavailable embedder does not slow the load down. */
const EMBED_BUDGET_MS = "500";

/** Runs clients while servers, database and embedder fail, then checks the stored memories. */
export async function runChaos(options: ChaosOptions): Promise<ChaosResult> {
  const { engine, size, seed } = options;
  const startedAt = performance.now();
  const seconds = () => Math.round((performance.now() - startedAt) / 1_000);
  const progress = (line: string) => options.progress(`${engine}, ${seconds()} s: ${line}`);
  await using cleanup = new AsyncDisposableStack();
  const ollama = cleanup.use(await startFakeOllama());
  const data = await createData(engine);
  cleanup.use(data);
  const servers = cleanup.use(
    createServers({ ...data.env, OLLAMA_API_URL: ollama.url, MEMORY_EMBED_BUDGET_MS: EMBED_BUDGET_MS }),
  );
  const { url } = await servers.start();
  const observer = cleanup.adopt(createMemoryClient({ baseUrl: url }), (client) => client.close());
  await observer.raw.domains.createDomain({ name: DOMAIN });

  const operations = planOperations(size, seed);
  const total = operations.reduce((sum, own) => sum + own.length, 0);
  const trouble = { ...options.trouble, stops: engine === "postgres" ? options.trouble.stops : 0 };
  const incidents = planIncidents(trouble, total, seed);
  const allowedDuring = (n: number) => incidents[n + 1]?.at ?? total;

  const ledger = createLedger();
  const embedderFaults = createEmbedderFaults(ollama);
  const load = startLoad({ url, domain: DOMAIN, operations, ledger, allowed: incidents[0]?.at ?? total });
  let kills = 0;
  let starts = 0;
  let stops = 0;

  async function meet(incident: Incident): Promise<string> {
    switch (incident.kind) {
      case "kill":
        await servers.kill();
        if (incident.againAfterMs !== undefined) {
          await servers.startAndKill(incident.againAfterMs);
          starts++;
        }
        await servers.start();
        return `kill ${++kills} of ${trouble.kills}`;
      case "stop":
        await data.postgres?.stopAtOnce();
        await sleep(incident.awayMs);
        await data.postgres?.start();
        return `stop ${++stops} of ${trouble.stops}`;
      case "fault":
        await embedderFaults.change(incident.fault);
        return `embedder: ${incident.fault.kind}`;
    }
  }

  for (const [n, { at, incident }] of incidents.entries()) {
    await load.reaches(at);
    embedderFaults.poison(at > total * POISON_FROM && at < total * trouble.poisonUntil);
    load.allow(allowedDuring(n));
    progress(`${load.finished()} of ${total} operations, ${await meet(incident)}`);
  }
  await load.done;
  await embedderFaults.clear();
  progress(`${total} operations, faults are over`);

  await servers.stop();
  await servers.start();
  const retriedMemories = await settle(observer, DOMAIN, SETTLE_MS);
  progress("checking the stored memories");
  const found: string[] = [];
  const memories = (async function* () {
    for await (const memory of readMemories(observer.raw.memories, DOMAIN)) {
      found.push(memory.id);
      yield memory;
    }
  })();
  const findings = await findViolations(ledger, memories, calmEmbedding(ollama));
  const every = Math.ceil(found.length / SEARCHED);
  const unfindable = await findMissingFromSearch(
    observer,
    DOMAIN,
    found.filter((_, n) => n % every === 0),
  );
  return {
    engine,
    seconds: seconds(),
    load: load.counts,
    kills,
    starts,
    stops,
    faults: embedderFaults.met(),
    retriedMemories,
    found: found.length,
    findings,
    unfindable,
    crashes: servers.crashes,
  };
}

/** Returns the embedding that an undisturbed server stores for a chunk. */
function calmEmbedding(ollama: FakeOllama): (text: string) => Float32Array {
  const profile = profileForModel(MODEL);
  return (text) => ollama.embedding(prepareText(profile, text, "document"), MODEL);
}

async function createData(engine: ChaosOptions["engine"]) {
  if (engine === "embedded") {
    const directory = await createDataDirectory({ empty: true });
    return { env: directory.env, [Symbol.asyncDispose]: () => directory[Symbol.asyncDispose]() };
  }
  // Concurrent runs in two checkouts must not replace each other's server.
  const checkout = hash("sha256", process.cwd()).slice(0, 8);
  const postgres: NativePostgres = await startNativePostgres(`chaos-${checkout}`);
  return {
    env: { DATABASE_URL: postgres.url },
    postgres,
    [Symbol.asyncDispose]: () => postgres[Symbol.asyncDispose](),
  };
}

/** Runs one server after another, all on the port of the first. */
function createServers(env: Readonly<Record<string, string>>) {
  const crashes: string[] = [];
  let port = "0";
  let current: ServerProcess | undefined;
  let expected = true;

  const end = async (how: "kill" | "stop") => {
    expected = true;
    const exit = await current?.[how]();
    if (how === "stop" && exit?.code !== 0) crashes.push(`stopped with ${exit?.code ?? exit?.signal}`);
  };
  return {
    crashes,
    async start(): Promise<ServerProcess> {
      const server = await startServerProcess({ env: { ...env, MEMORY_PORT: port } });
      port = String(server.port);
      current = server;
      expected = false;
      void server.exited.then(({ code, signal }) => {
        if (!expected && current === server) crashes.push(`ended with ${code ?? signal}: ${server.stderr()}`);
      });
      return server;
    },
    /** Starts a server that is killed before it serves. */
    async startAndKill(afterMs: number): Promise<void> {
      const { child, exited } = startProgram(["serve"], { env: { ...env, MEMORY_PORT: port } });
      child.stdout?.resume();
      await sleep(afterMs);
      child.kill("SIGKILL");
      await exited;
    },
    kill: () => end("kill"),
    stop: () => end("stop"),
    [Symbol.asyncDispose]: () => end("kill"),
  };
}
