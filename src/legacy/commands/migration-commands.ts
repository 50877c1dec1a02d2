import { type Command, Option } from "commander";
import type { AdoptCommandOptions } from "./adopt-options.ts";
import type { CompareOptions } from "./compare.ts";
import type { ImportLegacyOptions } from "./import-legacy-options.ts";

type SetExitCode = (exitCode: number) => void;

/** Adds the commands for migrating from the old memory server. */
export function addMigrationCommands(program: Command, setExitCode: SetExitCode): void {
  addImportLegacyCommand(program, setExitCode);
  addAdoptCommand(program, setExitCode);
  addCompareCommand(program, setExitCode);
}

function addImportLegacyCommand(program: Command, setExitCode: SetExitCode): void {
  program
    .command("import-legacy [directory]")
    .description(
      "Import the data of the old SQLite + FAISS server: its data directory, or an export of its fork.",
    )
    .option(
      "--server <url>",
      "Server to import into. Defaults to the running server, or else the configured database.",
    )
    .option("--domain <name>", "Domain to import into. Defaults to the default domain.")
    .option("--dry-run", "Show what was found and what an import would do. Writes nothing.")
    .addOption(
      new Option(
        "--on-conflict <action>",
        "Action if a different memory has the same id. Defaults to skip.",
      ).choices(["skip", "rename", "replace"]),
    )
    .option(
      "--reuse-vectors",
      "Keep valid old embeddings if a sample of them matches what the model computes today.",
    )
    .option("--verify", "Compare every memory of the source with the imported one, byte by byte.")
    .option("--rollback <run>", "Remove the memories of this import that have not been changed since.")
    .option(
      "--report <directory>",
      "Directory for the report and the quarantine. Defaults to import-legacy-RUN.",
    )
    .option("--no-wait", "Do not wait for the embeddings.")
    .option("--json", "Print the report as one JSON object.")
    .addHelpText(
      "after",
      "\nThe source is only read. If you repeat an import, it imports what has changed since; an interrupted import\nresumes.\nExit code: 0 for success; 1 if a memory was not imported, differs or was kept; 2 for wrong usage.",
    )
    .action(async (directory: string | undefined, options: ImportLegacyOptions) =>
      setExitCode(await (await import("./import-legacy.ts")).importLegacy(directory, options)),
    );
}

function addAdoptCommand(program: Command, setExitCode: SetExitCode): void {
  program
    .command("adopt")
    .description(
      "Turn the tables of the old PostgreSQL server into domains. Only shows the plan without --yes.",
    )
    .option("--yes", "Carry out the plan.")
    .option(
      "--from <url>",
      "PostgreSQL database to copy from. It is only read. Defaults to adopting in place.",
    )
    .option(
      "--server <url>",
      "Server to copy into; requires --from. Defaults to the running server, or else the configured database.",
    )
    .option(
      "--map <old=new...>",
      "Domain for a table whose name is not a valid domain name, such as 'Old Name=new-name'.",
    )
    .option("--skip <name...>", "Tables to leave unchanged.")
    .option("--normalise", "Keep the old embeddings, scaled to unit length, instead of re-embedding.")
    .option("--despite-prefixes", "Allow --normalise for a model whose profile has prefixes.")
    .addOption(
      new Option(
        "--on-conflict <action>",
        "Action if a different memory has the same id; requires --from. Defaults to skip.",
      ).choices(["skip", "replace"]),
    )
    .option("--json", "Print the plan and the result as one JSON object.")
    .addHelpText(
      "after",
      "\nStop the old server first. If the command is interrupted, run it again to resume.\nExit code: 0 if the plan is possible or was carried out, 1 otherwise.",
    )
    .action(async (options: AdoptCommandOptions) =>
      setExitCode(await (await import("./adopt.ts")).adopt(options)),
    );
}

function addCompareCommand(program: Command, setExitCode: SetExitCode): void {
  program
    .command("compare <directory>")
    .description(
      "Run the same queries on the old data and on the service, and show how well the results agree.",
    )
    .option(
      "--server <url>",
      "Server to search. Defaults to the running server, or else the configured database.",
    )
    .option("--domain <name>", "Domain that the memories were imported into. Defaults to the default domain.")
    .option(
      "--queries <file>",
      "File of queries: lines of text, or JSON. Defaults to beginnings of old memories.",
    )
    .option("--sample <number>", "Number of old memories to take queries from. Defaults to 50.")
    .option("--limit <number>", "Number of memories to compare in each result. Defaults to 5.")
    .addOption(
      new Option(
        "--mode <mode>",
        "Search mode of the service. Defaults to hybrid, as in the MCP tools.",
      ).choices(["hybrid", "semantic"]),
    )
    .option("--json", "Print one JSON object.")
    .addHelpText(
      "after",
      "\nExit code: 0 if the top memory of every clear old result is also the new top memory, 1 otherwise.",
    )
    .action(async (directory: string, options: CompareOptions) =>
      setExitCode(await (await import("./compare.ts")).compare(directory, options)),
    );
}
