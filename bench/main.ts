import { Command, CommanderError, InvalidArgumentError, Option } from "commander";
import { StartupError } from "../src/util/startup-error.ts";
import { benchmarkCollections, formatCollectionsResult } from "./collections.ts";
import { chooseEngines, type EngineName } from "./engines.ts";
import { benchmarkFilters, formatFilterResult, type VectorKind } from "./filters.ts";
import { benchmarkSearch, formatSearchResult, type ModeName } from "./search.ts";

interface CommonOptions {
  readonly engine?: EngineName | "both";
  readonly database?: string;
  readonly json?: true;
}

interface SearchOptions extends CommonOptions {
  readonly rows: number;
  readonly callers: readonly number[];
  readonly mode: readonly ModeName[];
  readonly seconds: number;
  readonly limit: number;
  readonly seed: number;
  readonly freshQueries?: true;
  readonly cpuProf?: string;
  readonly keep?: true;
}

interface FilterOptions extends CommonOptions {
  readonly rows: number;
  readonly queries: number;
  readonly vectors: VectorKind;
  readonly seed: number;
  readonly keep?: true;
}

const MODES = ["hybrid", "semantic", "text"] as const;

const program = new Command("bench")
  .description("Measure a server over gRPC with fake embeddings. No measured time makes the benchmark fail.")
  .exitOverride();

withCommonOptions(program.command("search"))
  .description("Measure search times, throughput and recall on generated memories.")
  .option("--rows <number>", "Number of memories in the domain.", positive, 10_000)
  .option("--callers <numbers>", "Numbers of concurrent callers, separated by commas.", positives, [1, 8])
  .option("--mode <modes>", "Search modes, separated by commas: hybrid, semantic or text.", modes, ["hybrid"])
  .option("--seconds <number>", "Duration of the measurement for each number of callers.", positive, 5)
  .option("--limit <number>", "Number of hits of each search.", positive, 10)
  .option("--seed <number>", "Seed of the generated texts.", positive, 1)
  .option("--fresh-queries", "Use a new text for each search, so that each has to be embedded.")
  .option(
    "--cpu-prof <directory>",
    "Directory for the servers' CPU profiles, one of storing and one of searching.",
  )
  .option("--keep", "Keep the database.")
  .action(async (options: SearchOptions) => {
    const results = await benchmarkSearch({
      ...options,
      engines: enginesFrom(options),
      modes: options.mode,
      freshQueries: options.freshQueries ?? false,
      profileDirectory: options.cpuProf,
      keep: options.keep ?? false,
      progress,
    });
    print(options, "search", results, formatSearchResult);
  });

withCommonOptions(program.command("filters"))
  .description("Measure recall and times of filtered semantic search at several selectivities.")
  .option("--rows <number>", "Number of memories in the domain.", positive, 10_000)
  .option("--queries <number>", "Number of queries for each filter.", positive, 100)
  .addOption(
    new Option(
      "--vectors <kind>",
      "Vectors: clustered like those of texts, or from words and nearly orthogonal.",
    )
      .choices(["clustered", "words"])
      .default("clustered"),
  )
  .option("--seed <number>", "Seed of the generated texts and vectors.", positive, 1)
  .option("--keep", "Keep the database.")
  .action(async (options: FilterOptions) => {
    const results = await benchmarkFilters({
      ...options,
      engines: enginesFrom(options),
      keep: options.keep ?? false,
      progress,
    });
    print(options, "filters", results, formatFilterResult);
  });

withCommonOptions(program.command("collections"))
  .description("Store all documents of labelled collections and run all their queries.")
  .argument(
    "<directory>",
    "Directory with a subdirectory (documents.jsonl, queries.jsonl) for each collection.",
  )
  .action(async (directory: string, options: CommonOptions) => {
    const results = await benchmarkCollections({ engines: enginesFrom(options), directory, progress });
    print(options, "collections", results, formatCollectionsResult);
  });

function withCommonOptions(command: Command): Command {
  return command
    .addOption(
      new Option(
        "--engine <engine>",
        "Engine to measure; defaults to embedded, and postgres if a server is known.",
      ).choices(["embedded", "postgres", "both"]),
    )
    .option("--database <url>", "URL of a PostgreSQL server; defaults to TEST_DATABASE_URL or DATABASE_URL.")
    .option("--json", "Print one JSON object instead of tables.");
}

function enginesFrom({ engine, database }: CommonOptions) {
  const url = database ?? (process.env.TEST_DATABASE_URL || process.env.DATABASE_URL || undefined);
  return chooseEngines(engine, url);
}

function print<T>(
  options: CommonOptions,
  benchmark: string,
  results: readonly T[],
  format: (result: T) => string,
) {
  if (options.json) console.log(JSON.stringify({ benchmark, results }));
  else console.log(results.map(format).join("\n\n"));
}

/** Prints to standard error, so that standard output contains only the result. */
function progress(line: string): void {
  console.error(line);
}

function positive(text: string): number {
  const number = Number(text);
  if (!Number.isInteger(number) || number < 1)
    throw new InvalidArgumentError("It must be a whole number from 1.");
  return number;
}

function positives(text: string): number[] {
  return text.split(",").map(positive);
}

function modes(text: string): ModeName[] {
  return text.split(",").map((name) => {
    const mode = MODES.find((one) => one === name);
    if (mode === undefined) throw new InvalidArgumentError(`It must be one of ${MODES.join(", ")}.`);
    return mode;
  });
}

try {
  await program.parseAsync();
} catch (error) {
  if (error instanceof CommanderError) process.exitCode = error.exitCode;
  else if (error instanceof StartupError) {
    console.error(`bench: ${error.message}`);
    process.exitCode = 2;
  } else throw error;
}
