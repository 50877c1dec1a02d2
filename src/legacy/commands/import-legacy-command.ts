import { type Command, Option } from "commander";
import type { ImportLegacyOptions } from "./import-legacy.ts";

/** Adds the command that brings over the data of the old system. */
export function addImportLegacyCommand(program: Command, setExitCode: (exitCode: number) => void): void {
  program
    .command("import-legacy [directory]")
    .description(
      "bring over the data of the old SQLite + FAISS system: its data directory, or an export of its fork",
    )
    .option(
      "--server <url>",
      "the server to import into; default: the one that runs, else the configured database",
    )
    .option("--domain <name>", "the domain to import into; default: the default one")
    .option("--dry-run", "say what was found and what would be done, and write nothing")
    .addOption(
      new Option(
        "--on-conflict <what>",
        "what to do about a memory whose id another one has (default: skip)",
      ).choices(["skip", "rename", "replace"]),
    )
    .option(
      "--reuse-vectors",
      "take over old embeddings that are sound, if those of a sample are what the model makes now",
    )
    .option("--verify", "compare every memory with what was imported, byte by byte")
    .option("--rollback <run>", "remove what this import brought and nobody has changed since")
    .option("--report <directory>", "where report and quarantine go (default: import-legacy-RUN)")
    .option("--no-wait", "do not wait for the embeddings")
    .option("--json", "the report as one JSON object")
    .addHelpText(
      "after",
      "\nThe source is only read. Repeating it brings what has changed since; an interrupted import goes on.\nExit code: 0 if all is well; 1 if something is not imported, differs, or was left; 2 for wrong usage.",
    )
    .action(async (directory: string | undefined, options: ImportLegacyOptions) =>
      setExitCode(await (await import("./import-legacy.ts")).importLegacy(directory, options)),
    );
}
