import { Command, CommanderError, InvalidArgumentError } from "commander";
import { chooseEngines } from "../../bench/engines.ts";
import { startFakeOllamaProcess } from "../../bench/processes.ts";
import { startMeasuredServer } from "../../test/support/server/measured-server.ts";
import { fuzz } from "./run.ts";

interface Options {
  readonly requests: number;
  readonly seed: number;
  readonly only?: number;
  readonly database?: string;
}

const program = new Command("fuzz")
  .description(
    "Send invalid and hostile requests to a server, and check that it answers correctly and stays stable.",
  )
  .option("--requests <number>", "Number of cases to send.", whole, 100_000)
  .option(
    "--seed <number>",
    "Seed of the cases; defaults to a new one for each run.",
    whole,
    Date.now() % 1_000_000,
  )
  .option("--only <number>", "Send only this case, and print it.")
  .option("--database <url>", "URL of a PostgreSQL server; defaults to the embedded engine.")
  .exitOverride();

function whole(text: string): number {
  const number = Number(text);
  if (!Number.isInteger(number) || number < 0) throw new InvalidArgumentError("It must be a whole number.");
  return number;
}

async function run({ requests, seed, only, database }: Options): Promise<void> {
  const [createEngine] = chooseEngines(database === undefined ? "embedded" : "postgres", database);
  if (createEngine === undefined) throw new Error("no engine");
  const progress = (line: string) => console.error(line);
  progress(`seed ${seed}`);
  const engine = await createEngine();
  const ollama = await startFakeOllamaProcess();
  try {
    const server = await startMeasuredServer({
      ...engine.environment,
      OLLAMA_API_URL: ollama.url,
      MEMORY_MAX_DOMAINS: "20",
    });
    const begin = performance.now();
    const { findings, lines } = await fuzz({
      server,
      seed,
      requests,
      only: only === undefined ? undefined : Number(only),
      progress,
    });
    const code = await server.stop();
    const allFindings = code === 0 ? findings : [...findings, `the server ended with ${code}`];
    console.log(lines.join("\n"));
    const sent = only === undefined ? requests : 1;
    console.log(
      `${sent} cases in ${Math.round((performance.now() - begin) / 1_000)} s, seed ${seed}, engine ${engine.name}`,
    );
    console.log(`${allFindings.length} findings${allFindings.length === 0 ? "" : ":"}`);
    for (const text of allFindings.slice(0, 100)) console.log(`  ${text}`);
    if (allFindings.length > 0) process.exitCode = 1;
  } finally {
    await ollama.stop();
    await engine.remove();
  }
}

try {
  await run(program.parse().opts<Options>());
} catch (error) {
  if (error instanceof CommanderError) process.exitCode = error.exitCode;
  else throw error;
}
