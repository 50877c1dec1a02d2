import { type Command, Option } from "commander";
import type { McpOptions } from "./mcp.ts";

/** Adds the command that serves an assistant over standard input and output. */
export function addMcpCommand(program: Command): void {
  program
    .command("mcp")
    .description(
      "Serve the Model Context Protocol on standard input and output, with the tools of the old memory server.",
    )
    .option(
      "--server <url>",
      "Server that stores the memories. Defaults to opening the configured database in this process.",
    )
    .option(
      "--map <old=new...>",
      "Domain to use for a name that is not a valid domain name, such as 'Old Name=new-name'.",
    )
    .option("--also <command>", "Shell command that starts the old server; every write goes to both servers.")
    .addOption(
      new Option(
        "--read-from <side>",
        "Server that answers reads; requires --also. Defaults to new.",
      ).choices(["old", "new"]),
    )
    .addHelpText("after", "\nThe log goes to standard error.")
    .action(async (options: McpOptions) => (await import("./mcp.ts")).mcp(options));
}
