import { setTimeout as sleep } from "node:timers/promises";
import { Command, CommanderError, InvalidArgumentError } from "commander";
import { chooseEngines } from "../../bench/engines.ts";
import { startFakeOllamaProcess } from "../../bench/processes.ts";
import { type ProcessSample, startMeasuredServer } from "../../test/support/server/measured-server.ts";
import { startLoad } from "./load.ts";

interface Options {
  readonly minutes: number;
  readonly callers: number;
  readonly seed: number;
  readonly database?: string;
}

/** Minutes after which a working server has loaded, compiled and cached all it keeps. */
const settledMinute = 5;

/** Tolerated growth of resident memory after that. */
const toleratedGrowth = 0.1;

const program = new Command("soak")
  .description("Run a server under full load, and check that its memory does not grow.")
  .option("--minutes <number>", "how long", whole, 30)
  .option("--callers <number>", "Number of concurrent callers.", whole, 8)
  .option("--seed <number>", "Seed of texts and choices.", whole, 1)
  .option("--database <url>", "URL of a PostgreSQL server; defaults to the embedded engine.")
  .exitOverride();

function whole(text: string): number {
  const number = Number(text);
  if (!Number.isInteger(number) || number < 1)
    throw new InvalidArgumentError("It must be a whole number from 1.");
  return number;
}

async function run({ minutes, callers, seed, database }: Options): Promise<void> {
  const [createEngine] = chooseEngines(database === undefined ? "embedded" : "postgres", database);
  if (createEngine === undefined) throw new Error("no engine");
  const engine = await createEngine();
  const ollama = await startFakeOllamaProcess();
  try {
    const server = await startMeasuredServer({ ...engine.environment, OLLAMA_API_URL: ollama.url });
    const load = startLoad(server.url, callers, seed);
    const samples: ProcessSample[] = [];
    let counted = 0;
    for (let minute = 1; minute <= minutes && server.isAlive(); minute++) {
      await sleep(60_000);
      const sample = await server.sample();
      samples.push(sample);
      const perSecond = Math.round((load.calls() - counted) / 60);
      counted = load.calls();
      console.log(`minute ${minute}: ${perSecond} calls/s, ${describe(sample)}`);
    }
    await load.stop();
    const code = await server.stop();
    const problems = [
      ...(code === 0 ? [] : [`the server ended with ${code}`]),
      ...growth(samples),
      ...[...load.failures].map(([message, count]) => `${count} calls failed: ${message}`),
      ...server.complaints.slice(0, 10).map((line) => `logged: ${line.slice(0, 1_000)}`),
    ];
    console.log(
      `${load.calls()} calls of ${callers} callers in ${minutes} minutes, engine ${engine.name}, seed ${seed}`,
    );
    for (const problem of problems) console.log(`PROBLEM ${problem}`);
    if (problems.length > 0) process.exitCode = 1;
  } finally {
    await ollama.stop();
    await engine.remove();
  }
}

/** Returns what is wrong with the last sample, compared with minute five, or with the middle of a shorter run. */
function growth(samples: readonly ProcessSample[]): string[] {
  const minute = Math.min(settledMinute, Math.ceil(samples.length / 2));
  const settled = samples[minute - 1];
  const last = samples.at(-1);
  if (settled === undefined || last === undefined) return ["no sample was taken"];
  const ratio = last.rss / settled.rss;
  console.log(`resident memory at the end is ${(ratio * 100).toFixed(1)} % of minute ${minute}'s`);
  if (ratio <= 1 + toleratedGrowth) return [];
  return [`resident memory grew by more than ${toleratedGrowth * 100} % after minute ${minute}`];
}

function describe({ rss, heapUsed, external, sockets }: ProcessSample): string {
  const [resident, heap, buffers] = [rss, heapUsed, external].map((bytes) => Math.round(bytes / 1024 / 1024));
  return `resident ${resident} MiB, heap ${heap} MiB, buffers ${buffers} MiB, ${sockets} connections`;
}

try {
  await run(program.parse().opts<Options>());
} catch (error) {
  if (error instanceof CommanderError) process.exitCode = error.exitCode;
  else throw error;
}
