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
  .description(
    "Measures a server of its own over gRPC, with fake embeddings. It never fails because of a time.",
  )
  .exitOverride();

withCommonOptions(program.command("search"))
  .description("search times, throughput and recall on generated memories")
  .option("--rows <number>", "memories in the domain", positive, 10_000)
  .option("--callers <numbers>", "callers at once, separated by commas", positives, [1, 8])
  .option("--mode <modes>", "hybrid, semantic or text; several separated by commas", modes, ["hybrid"])
  .option("--seconds <number>", "how long to measure each number of callers", positive, 5)
  .option("--limit <number>", "hits of each search", positive, 10)
  .option("--seed <number>", "of the generated texts", positive, 1)
  .option("--fresh-queries", "a new text for each search, so that every one has to be embedded")
  .option(
    "--cpu-prof <directory>",
    "leave the servers' CPU profiles here, one of storing and one of searching",
  )
  .option("--keep", "leave the database behind")
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
  .description("recall and times of filtered semantic search at several selectivities")
  .option("--rows <number>", "memories in the domain", positive, 10_000)
  .option("--queries <number>", "for each filter", positive, 100)
  .addOption(
    new Option("--vectors <kind>", "in clusters, as texts have them, or of words, nearly orthogonal")
      .choices(["clustered", "words"])
      .default("clustered"),
  )
  .option("--seed <number>", "of the generated texts and vectors", positive, 1)
  .option("--keep", "leave the database behind")
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
  .description("stores all documents of labelled collections and asks all their queries")
  .argument("<directory>", "holds a directory for each collection, with documents.jsonl and queries.jsonl")
  .action(async (directory: string, options: CommonOptions) => {
    const results = await benchmarkCollections({ engines: enginesFrom(options), directory, progress });
    print(options, "collections", results, formatCollectionsResult);
  });

function withCommonOptions(command: Command): Command {
  return command
    .addOption(
      new Option(
        "--engine <engine>",
        "what to measure; default: embedded, and postgres where a server is known",
      ).choices(["embedded", "postgres", "both"]),
    )
    .option("--database <url>", "PostgreSQL server; default: TEST_DATABASE_URL or DATABASE_URL")
    .option("--json", "print one JSON object instead of tables");
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

/** To standard error, so that standard output holds nothing but the result. */
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
