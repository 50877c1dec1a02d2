import type { MeasuredServer, ProcessSample } from "../../test/support/server/measured-server.ts";
import { createDice } from "./dice.ts";
import { createHttpClient } from "./http-client.ts";
import { judge } from "./judge.ts";
import type { Ways } from "./kind.ts";
import { compressedBombs } from "./kinds/bombs.ts";
import { pickKind } from "./kinds.ts";
import { createRawClient } from "./raw-client.ts";
import { checkService, emptyServer } from "./service-check.ts";
import { createTally } from "./tally.ts";

export interface FuzzOptions {
  readonly server: MeasuredServer;
  readonly seed: number;
  readonly requests: number;
  /** Runs only this case, and prints everything it sends and receives. */
  readonly only?: number | undefined;
  readonly progress: (line: string) => void;
}

export interface FuzzResult {
  readonly findings: readonly string[];
  readonly lines: readonly string[];
}

/** Number of concurrent callers. */
const callers = 8;

/** Samples are taken after equal parts of the run; warm-up ends with the first. */
const rounds = 4;

/**
 * Memory that varies without a leak: caches, the allocator, and the part of its 128 MiB of shared buffers that the
 * embedded engine uses. In bytes.
 */
const heapSlack = 24 * 1024 * 1024;
const residentSlack = 256 * 1024 * 1024;

/** Eight concurrent bombs, each refused at 4 MiB, plus the memory for sending and decompressing. In bytes. */
const bombSlack = 200 * 1024 * 1024;

const maxFindings = 50;
/** How long connections may take to close: the pool closes idle ones to PostgreSQL after a minute. */
const settleMs = 90_000;

/** Sends all cases, then checks that the server returned to its initial state. */
export async function fuzz(options: FuzzOptions): Promise<FuzzResult> {
  const { server, seed, progress } = options;
  const findings: string[] = [];
  const undecodable = new Map<string, number>();
  const tally = createTally();
  const report = (text: string) => {
    if (findings.length < maxFindings) progress(`FINDING ${text}`);
    findings.push(text);
  };

  async function sendOne(n: number, ways: Ways): Promise<void> {
    const dice = createDice(seed, n);
    const kind = pickKind(dice);
    const attempt = kind.attempt(dice, ways);
    if (options.only !== undefined) progress(`case ${n}: ${kind.name}: ${attempt.title}`);
    const answer = await attempt.send();
    if (options.only !== undefined) progress(`${answer.outcome} ${answer.reason ?? ""}\n${answer.text}`);
    tally.count(kind.name, answer.outcome);
    const verdict = judge(attempt, answer);
    if (verdict.kind === "finding") report(`case ${n}, ${kind.name}: ${attempt.title}: ${verdict.why}`);
    else if (verdict.kind === "undecodable") {
      undecodable.set(verdict.message, (undecodable.get(verdict.message) ?? 0) + 1);
    }
  }

  async function sendAll(from: number, to: number): Promise<void> {
    const raw = createRawClient(server.port);
    let next = from;
    const call = async () => {
      const http = createHttpClient(server.url);
      for (let n = next++; n < to && server.isAlive(); n = next++) {
        await sendOne(n, { http, raw });
        if ((n + 1) % 5_000 === 0) progress(`${n + 1} cases`);
      }
      http.close();
    };
    await Promise.all(Array.from({ length: callers }, call));
    raw.close();
  }

  async function settle(): Promise<ProcessSample> {
    await emptyServer(server.url);
    return await sampleWhenQuiet(server, before.sockets);
  }

  const before = await server.sample();
  const from = options.only ?? 0;
  const to = options.only === undefined ? options.requests : options.only + 1;
  const samples = [before];
  for (let round = 0; round < rounds && server.isAlive(); round++) {
    const start = from + Math.floor(((to - from) * round) / rounds);
    await sendAll(start, from + Math.floor(((to - from) * (round + 1)) / rounds));
    if (!server.isAlive()) break;
    samples.push(await settle());
    progress(`after round ${round + 1}: ${describe(samples.at(-1) ?? before)}`);
  }
  const bombs = server.isAlive() && options.only === undefined ? await throwBombs(server, seed) : undefined;
  if (bombs !== undefined && bombs.grownBytes > bombSlack) {
    report(`compressed bombs made the server grow by ${megabytes(bombs.grownBytes)}`);
  }

  if (!server.isAlive()) report("the server has ended");
  else {
    const wrong = await checkService(server.url);
    if (wrong !== undefined) report(`afterwards the service does not work: ${wrong}`);
    for (const problem of growth(samples)) report(problem);
  }
  for (const line of server.complaints.slice(0, 10)) report(`logged: ${line.slice(0, 2_000)}`);

  return {
    findings,
    lines: [
      ...tally.lines(),
      `connect's own decode failures: ${[...undecodable.values()].reduce((sum, count) => sum + count, 0)}`,
      ...[...undecodable].sort(([, a], [, b]) => b - a).map(([message, count]) => `  ${count} ${message}`),
      ...samples.map(
        (sample, round) => `${round === 0 ? "before" : `after round ${round}`}: ${describe(sample)}`,
      ),
      ...(bombs === undefined
        ? []
        : [`${bombs.count} compressed bombs: peak grew by ${megabytes(bombs.grownBytes)}`]),
    ],
  };
}

/** Returns the sample once there are as many connections as before, or after the time limit. */
async function sampleWhenQuiet(server: MeasuredServer, sockets: number): Promise<ProcessSample> {
  const end = performance.now() + settleMs;
  for (;;) {
    const sample = await server.sample();
    // Two more for the connections that the server keeps to the embedder.
    if (sample.sockets <= sockets + 2 || performance.now() > end) return sample;
    await new Promise((resolve) => setTimeout(resolve, 250));
  }
}

/** Returns what grew from the first round, which is the warm-up, to the last. */
function growth(samples: readonly ProcessSample[]): string[] {
  const [before, first] = samples;
  const last = samples.at(-1);
  if (before === undefined || first === undefined || last === undefined) return [];
  const problems: string[] = [];
  const heap = last.heapUsed + last.external - first.heapUsed - first.external;
  if (heap > heapSlack) problems.push(`the heap grew by ${megabytes(heap)} after the first round`);
  if (last.rss - first.rss > residentSlack) {
    problems.push(`resident memory grew by ${megabytes(last.rss - first.rss)} after the first round`);
  }
  if (last.sockets > before.sockets + 2) {
    problems.push(`${last.sockets} connections are open, ${before.sockets} were before`);
  }
  return problems;
}

/** Sends only bombs, several concurrently. Returns undefined if the system does not report the peak. */
async function throwBombs(server: MeasuredServer, seed: number) {
  const count = 5 * callers;
  const { rss } = await server.sample();
  if (server.peakRss() === undefined) return undefined;
  const raw = createRawClient(server.port);
  await Promise.all(
    Array.from({ length: callers }, async (_, caller) => {
      const http = createHttpClient(server.url);
      for (let n = caller; n < count; n += callers)
        await compressedBombs.attempt(createDice(seed, n), { http, raw }).send();
      http.close();
    }),
  );
  return { count, grownBytes: (server.peakRss() ?? rss) - rss };
}

function describe({ rss, heapUsed, external, sockets }: ProcessSample): string {
  return `resident ${megabytes(rss)}, heap ${megabytes(heapUsed)}, buffers ${megabytes(external)}, ${sockets} connections`;
}

function megabytes(bytes: number): string {
  return `${Math.round(bytes / 1024 / 1024)} MiB`;
}
