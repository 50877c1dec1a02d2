import type { Command } from "commander";
import { SCOPE_GRAMMAR } from "../auth/scopes.ts";
import type { CreateKeyOptions } from "./create-key.ts";

/** Adds the commands that create credentials. They do not contact a server. */
export function addKeyCommands(program: Command): void {
  program
    .command("create-key")
    .description("Create an API key and its line for MEMORY_API_KEYS_FILE.")
    .requiredOption("--name <name>", "Name of the key's owner in logs: letters, digits, ., _, @ and -.")
    .requiredOption("--scope <scope...>", `Permissions of the key: ${SCOPE_GRAMMAR}`)
    .option("--expires <date>", "Date on which the key expires, such as 2030-01-31. Defaults to never.")
    .option("--file <path>", "File to append the line to. A running server picks it up.")
    .action(async (options: CreateKeyOptions) => (await import("./create-key.ts")).createKey(options));
}
