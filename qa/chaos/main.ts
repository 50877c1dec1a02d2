// Runs clients that store, change and delete while everything around them fails, and reports whether a memory was lost;
// see docs/operations.md. Exits with 1 if one was.
import { Command, CommanderError, InvalidArgumentError, Option } from "commander";
import { formatResult, isSound } from "./report.ts";
import { type ChaosOptions, runChaos } from "./run.ts";

const CLIENTS = 8;
const FULL = {
  memories: 10_000,
  trouble: { kills: 10, stops: 3, faults: Number.POSITIVE_INFINITY, poisonUntil: 0.9 },
};
/** Keeps both engines together under two minutes on two busy cores. */
const SHORT = { memories: 1_000, trouble: { kills: 4, stops: 2, faults: 8, poisonUntil: 0.4 } };

interface Options {
  readonly short?: true;
  readonly memories?: number;
  readonly engine: ChaosOptions["engine"] | "all";
  readonly seed: number;
}

const program = new Command("chaos")
  .exitOverride()
  .description("Store memories while servers, PostgreSQL and the embedder fail, and check that none is lost.")
  .option("--short", "Run with fewer memories and failures, in under two minutes.")
  .option(
    "--memories <number>",
    `Number of memories to store; defaults to ${FULL.memories}, with --short to ${SHORT.memories}.`,
    positive,
  )
  .addOption(
    new Option("--engine <engine>", "Storage engine; postgres starts its own server and requires root.")
      .choices(["embedded", "postgres", "all"])
      .default("all"),
  )
  .option(
    "--seed <number>",
    "Seed of the plan; defaults to a different one for each run.",
    positive,
    Date.now() % 1_000_000,
  )
  .action(async (options: Options) => {
    const { memories, trouble } = options.short ? SHORT : FULL;
    const { seed } = options;
    const engines = options.engine === "all" ? (["embedded", "postgres"] as const) : [options.engine];
    const size = { memories: options.memories ?? memories, clients: CLIENTS };
    const progress = (line: string) => console.error(line);
    // Runs the engines concurrently, since both mostly wait. Each cleans up even if the other fails.
    const runs = await Promise.allSettled(
      engines.map((engine) => runChaos({ engine, size, trouble, seed, progress })),
    );
    for (const run of runs) {
      if (run.status === "fulfilled") console.log(formatResult(run.value));
      else console.error(run.reason);
      if (run.status === "rejected" || !isSound(run.value)) process.exitCode = 1;
    }
    console.log(`seed ${seed}`);
  });

function positive(text: string): number {
  const number = Number(text);
  if (!Number.isInteger(number) || number < 1)
    throw new InvalidArgumentError("It must be a whole number from 1.");
  return number;
}

try {
  await program.parseAsync();
} catch (error) {
  if (!(error instanceof CommanderError)) throw error;
  process.exitCode = error.exitCode;
}
