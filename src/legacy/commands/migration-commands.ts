import { type Command, Option } from "commander";
import type { McpOptions } from "../../cli/mcp.ts";
import type { AdoptCommandOptions } from "./adopt.ts";
import type { CompareOptions } from "./compare.ts";
import { addImportLegacyCommand } from "./import-legacy-command.ts";

/** Adds the commands for those who come from the old memory server. */
export function addMigrationCommands(program: Command, setExitCode: (exitCode: number) => void): void {
  addImportLegacyCommand(program, setExitCode);
  program
    .command("adopt")
    .description("take over the tables of the old PostgreSQL version; shows the plan unless --yes is given")
    .option("--yes", "carry out the plan")
    .option("--from <url>", "copy from this PostgreSQL database instead, which is only read")
    .option(
      "--server <url>",
      "with --from: the server to copy into; default: the one that runs, else the configured database",
    )
    .option(
      "--map <old=new...>",
      "the domain that a table becomes whose name is not allowed, as 'Old Name=new-name'",
    )
    .option("--skip <name...>", "leave this table alone")
    .option("--normalise", "keep the old embeddings, at unit length, instead of making them again")
    .option("--despite-prefixes", "with --normalise: also for a model that is asked with prefixes")
    .addOption(
      new Option(
        "--on-conflict <what>",
        "with --from: what to do about a memory that differs from one of its id (default: skip)",
      ).choices(["skip", "replace"]),
    )
    .option("--json", "the plan, and what was done, as one JSON object")
    .addHelpText(
      "after",
      "\nStop the old server first. Repeating it after an interruption goes on.\nExit code: 0 if the plan can be, or was, carried out; 1 if not.",
    )
    .action(async (options: AdoptCommandOptions) =>
      setExitCode(await (await import("./adopt.ts")).adopt(options)),
    );
  program
    .command("mcp")
    .description(
      "speak the Model Context Protocol on standard input and output, with the tools of the old server",
    )
    .option(
      "--server <url>",
      "the server whose memories they are; default: the database of the settings, in this process",
    )
    .option(
      "--map <old=new...>",
      "the domain that is meant by a name which is not allowed, as 'Old Name=new-name'",
    )
    .option("--also <command>", "write to the old server, too, which this line for the shell starts")
    .addOption(
      new Option("--read-from <side>", "with --also: who answers (default: new)").choices(["old", "new"]),
    )
    .addHelpText("after", "\nIts log goes to standard error.")
    .action(async (options: McpOptions) => (await import("../../cli/mcp.ts")).mcp(options));
  program
    .command("compare <directory>")
    .description("ask the old data and the service the same questions, and say how far the answers agree")
    .option("--server <url>", "the server to ask; default: the one that runs, else the configured database")
    .option("--domain <name>", "where the memories were imported to; default: the default one")
    .option("--queries <file>", "lines of text, or JSON; default: beginnings of the old memories")
    .option("--sample <number>", "how many of those (default: 50)")
    .option("--limit <number>", "how many memories of each answer to compare (default: 5)")
    .addOption(
      new Option("--mode <mode>", "how the service searches (default: hybrid, as the tools do)").choices([
        "hybrid",
        "semantic",
      ]),
    )
    .option("--json", "as one JSON object")
    .addHelpText("after", "\nExit code: 0 if every clear old answer is at the top of the new one; 1 if not.")
    .action(async (directory: string, options: CompareOptions) =>
      setExitCode(await (await import("./compare.ts")).compare(directory, options)),
    );
}
