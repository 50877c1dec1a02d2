import { Command, CommanderError } from "commander";
import { StartupError } from "../errors.ts";
import { SETTINGS, type Setting } from "../settings.ts";
import { serve } from "./serve.ts";

/** Bad usage or configuration; 1 is a failure while running. */
const EXIT_USAGE = 2;

/** Runs the program with the arguments of the process; returns its exit code. */
export async function run(argv: readonly string[]): Promise<number> {
  const program = new Command("memory-service")
    .description("Long-term memory for AI agents and services, over gRPC.")
    .exitOverride()
    .showHelpAfterError(false);
  program
    .command("serve")
    .description("run the server")
    .addHelpText("after", `\nSettings (environment variables):\n${settingsHelp()}`)
    .action(serve);

  try {
    await program.parseAsync([...argv]);
    return 0;
  } catch (error) {
    // Commander has printed its own sentence.
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : EXIT_USAGE;
    if (!(error instanceof StartupError)) throw error;
    console.error(`memory-service: ${error.message}`);
    return EXIT_USAGE;
  }
}

function settingsHelp(): string {
  return Object.entries<Setting<unknown>>(SETTINGS)
    .map(([name, { description, default: value, unit, allowed }]) => {
      const standard =
        value === undefined ? "" : ` Default: ${value}${unit === undefined ? "" : ` ${unit}`}.`;
      return `  ${name}\n      ${description} (${allowed})${standard}`;
    })
    .join("\n");
}
