import type { Command } from "commander";
import { SCOPE_GRAMMAR } from "../auth/scopes.ts";
import type { CreateKeyOptions } from "./create-key.ts";

/** The commands that make credentials; they ask no server. */
export function addKeyCommands(program: Command): void {
  program
    .command("create-key")
    .description("make an API key, and the line that MEMORY_API_KEYS_FILE needs of it")
    .requiredOption("--name <name>", "whose it is, for logs: letters, digits, ., _, @ and -")
    .requiredOption("--scope <scope...>", `what it may do: ${SCOPE_GRAMMAR}`)
    .option("--expires <date>", "when it ends, as 2030-01-31; default: never")
    .option("--file <path>", "add the line to this file, which a running server notices")
    .action(async (options: CreateKeyOptions) => (await import("./create-key.ts")).createKey(options));
}
