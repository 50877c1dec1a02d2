import { type Command, Option } from "commander";
import type { ExportOptions } from "./export.ts";
import type { ImportOptions } from "./import-run.ts";
import type { CommonOptions, ListOptions, SearchOptions, StoreOptions } from "./memories.ts";

const SERVER: readonly [string, string] = [
  "--server <url>",
  "URL of the server. Defaults to the server at MEMORY_HOST and MEMORY_PORT.",
];
const DOMAIN: readonly [string, string] = [
  "--domain <name>",
  "Name of the domain. Defaults to the server's default domain.",
];
const FILTER: readonly [string, string] = [
  "--filter <json>",
  "Filter that selects the memories, in protobuf's JSON form.",
];
const ifExists = () =>
  new Option(
    "--if-exists <action>",
    "Action if a different memory has the same id. Defaults to fail.",
  ).choices(["fail", "replace", "keep"]);

/** Adds the commands that call a running server. `setExitCode` sets the exit code of a command that partly failed. */
export function addMemoryCommands(program: Command, setExitCode: (exitCode: number) => void): void {
  const add = (usage: string, description: string) =>
    program
      .command(usage)
      .description(description)
      .option(...SERVER);
  const addPrinting = (usage: string, description: string) =>
    add(usage, description).option(
      "--json",
      "Print JSON. This is the default if the output is not a terminal.",
    );

  addPrinting("store [content]", "Store a memory. Without content, read it from standard input.")
    .option(...DOMAIN)
    .option("--id <id>", "Id of the memory. Defaults to a new id.")
    .option("--source <source>", "Where the memory comes from.")
    .option("--importance <number>", "How much the memory matters, from 0 to 1.")
    .option("--tag <tag...>", "Tags of the memory.")
    .option("--metadata <json>", "Additional data to store with the memory, as a JSON object.")
    .option("--ttl <duration>", "Time until the memory expires, such as 90s, 30m, 12h or 7d.")
    .addOption(ifExists())
    .action(async (content: string | undefined, options: StoreOptions) =>
      (await import("./memories.ts")).store(content, options),
    );
  addPrinting("search <query>", "Search memories by semantic and full-text search.")
    .option(...DOMAIN)
    .option("--limit <number>", "Maximum number of hits. Defaults to 5.")
    .addOption(
      new Option("--mode <mode>", "Search mode. Defaults to hybrid.").choices(["hybrid", "semantic", "text"]),
    )
    .option(...FILTER)
    .action(async (query: string, options: SearchOptions) =>
      (await import("./memories.ts")).search(query, options),
    );
  addPrinting("get <id>", "Show a memory.")
    .option(...DOMAIN)
    .action(async (id: string, options: CommonOptions) => (await import("./memories.ts")).get(id, options));
  addPrinting("list", "List memories, newest first. In JSON, each memory is one line.")
    .option(...DOMAIN)
    .option("--limit <number>", "Maximum number of memories. Defaults to 50.")
    .option(...FILTER)
    .action(async (options: ListOptions) => (await import("./memories.ts")).list(options));
  addPrinting("delete <id...>", "Delete memories permanently.")
    .option(...DOMAIN)
    .action(async (ids: string[], options: CommonOptions) =>
      (await import("./memories.ts")).remove(ids, options),
    );
  addPrinting("domains", "List the domains with their counts and embedding models.").action(
    async (options: CommonOptions) => (await import("./memories.ts")).domains(options),
  );
  add("export", "Write the memories of a domain to standard output, one JSON object per line.")
    .option(...DOMAIN)
    .option(...FILTER)
    .option("--embeddings", "Include the embeddings, so that an import does not have to compute them again.")
    .option("--cursor <cursor>", "Cursor at which to resume an interrupted export.")
    .action(async (options: ExportOptions) => (await import("./export.ts")).exportDomain(options));
  add("import <file>", "Store the memories of an export. Use - to read standard input.")
    .option("--domain <name>", "Domain for all memories. Defaults to the domain of each record.")
    .addOption(ifExists())
    .addOption(
      new Option("--on-error <action>", "Action if a line cannot be stored. Defaults to stop.").choices([
        "stop",
        "continue",
      ]),
    )
    .option("--from-line <number>", "First line to import. Earlier lines are skipped.")
    .addHelpText(
      "after",
      "\nExit code: 0 if every line is stored or was stored before, 1 otherwise. You can safely repeat an import.",
    )
    .action(async (file: string, options: ImportOptions) =>
      setExitCode(await (await import("./import.ts")).importFile(file, options)),
    );
}
