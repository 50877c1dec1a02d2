import { Command, CommanderError, InvalidArgumentError, Option } from "commander";
import { StartupError } from "../../src/util/startup-error.ts";
import { readCollections } from "../collection.ts";
import { chooseEngines } from "../engines.ts";
import { formatNumber, formatTable } from "../table.ts";
import { type Evaluation, evaluate, type ModeName } from "./evaluate.ts";

interface Options {
  readonly mode: ModeName | "all";
  readonly embedder: string;
  readonly model: string;
  readonly database?: string;
  readonly textWeight?: number;
  readonly semanticWeight?: number;
  readonly k?: number;
  readonly oneDomain?: true;
  readonly json?: true;
}

const MODES = ["text", "semantic", "hybrid"] as const;

const program = new Command("eval")
  .description("Evaluate search quality on a labelled collection.")
  .argument("<directory>", "Collection (documents.jsonl, queries.jsonl), or a directory of collections.")
  .addOption(new Option("--mode <mode>", "Search mode.").choices([...MODES, "all"]).default("all"))
  .option(
    "--embedder <url>",
    "URL of Ollama, for semantic and hybrid search.",
    process.env.OLLAMA_API_URL || "http://localhost:11434",
  )
  .option("--model <name>", "Embedding model.", process.env.OLLAMA_EMBEDDING_MODEL || "nomic-embed-text")
  .option(
    "--database <url>",
    "URL of a PostgreSQL server for a temporary database; defaults to the embedded engine.",
  )
  .option("--text-weight <number>", "Weight of the full-text leg in hybrid search.", number)
  .option("--semantic-weight <number>", "Weight of the semantic leg in hybrid search.", number)
  .option("--k <number>", "Constant of reciprocal rank fusion.", number)
  .option("--one-domain", "Put all scopes into one domain.")
  .option("--json", "Print one JSON object instead of a table.")
  .exitOverride();

function number(text: string): number {
  const value = Number(text);
  if (text.trim() === "" || !Number.isFinite(value)) throw new InvalidArgumentError("It must be a number.");
  return value;
}

async function run(directory: string, options: Options): Promise<void> {
  const evaluations: Evaluation[] = [];
  for (const collection of await readCollections(directory)) {
    const [createEngine] = chooseEngines(
      options.database === undefined ? "embedded" : "postgres",
      options.database,
    );
    if (createEngine === undefined) throw new Error("no engine was chosen");
    const engine = await createEngine();
    try {
      evaluations.push(
        await evaluate({
          engine,
          collection,
          modes: options.mode === "all" ? MODES : [options.mode],
          embedderUrl: options.embedder,
          model: options.model,
          ranking: rankingFrom(options),
          oneDomain: options.oneDomain ?? false,
          progress: (line) => console.error(line),
        }),
      );
    } finally {
      await engine.remove();
    }
  }
  const [only] = evaluations;
  if (options.json)
    console.log(JSON.stringify(evaluations.length === 1 ? only : { collections: evaluations }));
  else console.log(evaluations.map(formatEvaluation).join("\n\n"));
}

function rankingFrom({ textWeight, semanticWeight, k }: Options) {
  const ranking = {
    ...(textWeight === undefined ? {} : { textWeight }),
    ...(semanticWeight === undefined ? {} : { semanticWeight }),
    ...(k === undefined ? {} : { k }),
  };
  return Object.keys(ranking).length === 0 ? undefined : ranking;
}

function formatEvaluation(evaluation: Evaluation): string {
  const { collection, documents, domains, engine, model, settings, sha256, refused } = evaluation;
  const rows = MODES.flatMap((mode) => {
    const figures = evaluation[mode];
    if (figures === undefined) return [];
    const { categories = {}, ...all } = figures;
    return [
      [mode, all] as const,
      ...Object.entries(categories).map(([name, some]) => [`  ${name}`, some] as const),
    ];
  }).map(([name, figures]) => [
    name,
    String(figures.queries),
    figures["ndcg@10"].toFixed(3),
    figures["recall@10"].toFixed(3),
    figures["mrr@10"].toFixed(3),
    figures["session@10"]?.toFixed(3) ?? "",
    String(figures.empty),
  ]);
  const differences = Object.entries(evaluation.differences ?? {}).flatMap(([name, metrics]) =>
    Object.entries(metrics).map(
      ([metric, { mean, low, high }]) =>
        `${name}, ${metric}: ${signed(mean)} (95 %: ${signed(low)} to ${signed(high)})`,
    ),
  );
  return [
    `${collection}: ${formatNumber(documents)} documents in ${domains} domains, ${engine}, ${settings.textRanker}, ${model ?? "no model"}`,
    `sha256 ${sha256.documents.slice(0, 12)} (documents), ${sha256.queries.slice(0, 12)} (queries)`,
    ...Object.entries(refused).map(([reason, times]) => `${times} refused: ${reason}`),
    "",
    formatTable(["mode", "queries", "nDCG@10", "recall@10", "MRR@10", "session@10", "empty"], rows),
    ...differences,
  ].join("\n");
}

function signed(value: number): string {
  return `${value < 0 ? "-" : "+"}${Math.abs(value).toFixed(3)}`;
}

try {
  await program.action(run).parseAsync();
} catch (error) {
  if (error instanceof CommanderError) process.exitCode = error.exitCode === 0 ? 0 : 2;
  else if (error instanceof StartupError) {
    console.error(`eval: ${error.message}`);
    process.exitCode = 2;
  } else throw error;
}
