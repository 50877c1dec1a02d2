import { Command, CommanderError } from "commander";
import { SettingsError } from "../app/config.ts";
import { SETTINGS, type Setting } from "../app/settings.ts";
import { addMigrationCommands } from "../legacy/commands/migration-commands.ts";
import { ServiceError } from "../memory/model/errors.ts";
import { DatabaseError } from "../storage/database/database.ts";
import { StartupError } from "../util/startup-error.ts";
import { addKeyCommands } from "./key-commands.ts";
import { addMcpCommand } from "./mcp-command.ts";
import { addMemoryCommands } from "./memories/memory-commands.ts";
import { UsageError } from "./usage-error.ts";
import { versions } from "./versions.ts";

/** The command failed. */
const EXIT_FAILURE = 1;
/** The arguments or a setting are not valid. */
const EXIT_USAGE = 2;

/**
 * Runs the program with the arguments of the process and returns its exit code. A failure that the operator can fix is
 * reported as one sentence on standard error.
 */
export async function run(argv: readonly string[]): Promise<number> {
  exitWhenPipeCloses();
  const { program, exitCode } = createProgram();
  try {
    await program.parseAsync([...argv]);
    return exitCode();
  } catch (error) {
    if (error instanceof CommanderError) {
      if (error.exitCode === 0) return 0;
      return printError(usageMessage(program, error, argv.slice(2)), EXIT_USAGE);
    }
    if (error instanceof SettingsError || error instanceof UsageError)
      return printError(error.message, EXIT_USAGE);
    if (error instanceof StartupError) return printError(error.message, EXIT_FAILURE);
    if (error instanceof ServiceError || error instanceof DatabaseError) {
      const cause = error.cause instanceof Error ? ` (${error.cause.message})` : "";
      return printError(`${error.message}${cause}`, EXIT_FAILURE);
    }
    throw error;
  }
}

/** Creates the command-line parser. Each command is imported when it runs, so that a health check stays cheap. */
function createProgram() {
  let exitCode = 0;
  const program = new Command("memory-service")
    .description("Long-term memory for AI agents and services, over gRPC.")
    .helpOption("-h, --help", "Show this help.")
    .helpCommand("help [command]", "Show the help of a command.")
    .version(versions(), "-V, --version", "Show the versions.")
    .showSuggestionAfterError(false)
    // Commander's own messages do not list the allowed values.
    .configureOutput({ writeErr: () => {} })
    .exitOverride();
  program
    .command("serve")
    .description("Run the server.")
    .addHelpText("after", `\nSettings (environment variables):\n${settingsHelp()}`)
    .action(async () => (await import("./serve.ts")).serve());
  program
    .command("migrate")
    .description("Apply the pending migrations to the database.")
    .option("--print", "Print the pending migrations as a script for psql and change nothing.")
    .action(async ({ print = false }: { print?: boolean }) =>
      (await import("./migrate.ts")).migrate({ print }),
    );
  program
    .command("doctor")
    .description("Show what is reachable, what is stored, what is wrong and how to fix it. Changes nothing.")
    .option("--json", "Print one JSON object.")
    .addHelpText("after", "\nExit code: 0 if there is no problem (warnings are allowed), 1 otherwise.")
    .action(async ({ json = false }: { json?: boolean }) => {
      exitCode = await (await import("./doctor.ts")).doctor({ json });
    });
  program
    .command("version")
    .description("Show the versions of the program, of Node and of the client package.")
    .action(() => console.log(versions()));
  program
    .command("healthcheck")
    .description("Check whether the server at MEMORY_HOST and MEMORY_PORT is ready.")
    .addHelpText("after", "\nExit code: 0 if it is ready, 1 otherwise.")
    .action(async () => {
      exitCode = await (await import("./healthcheck.ts")).healthcheck();
    });
  const setExitCode = (code: number) => {
    exitCode = code;
  };
  addKeyCommands(program);
  addMemoryCommands(program, setExitCode);
  addMcpCommand(program);
  addMigrationCommands(program, setExitCode);
  return { program, exitCode: () => exitCode };
}

function printError(sentence: string, exitCode: number): number {
  console.error(`memory-service: ${sentence}`);
  return exitCode;
}

function usageMessage(program: Command, error: CommanderError, args: readonly string[]): string {
  const named = /'([^']*)'/.exec(error.message)?.[1] ?? "";
  const available = `available commands: ${program.commands.map((command) => command.name()).join(", ")}`;
  switch (error.code) {
    case "commander.help":
      return args[0] === "help" && args[1] !== undefined
        ? `unknown command "${args[1]}"; ${available}`
        : `no command given; ${available}`;
    case "commander.unknownCommand":
      return `unknown command "${named}"; ${available}`;
    case "commander.unknownOption": {
      const command = program.commands.find((one) => one.name() === args[0]) ?? program;
      const options = command.createHelp().visibleOptions(command);
      const names = options.map(({ long, short }) => long ?? short ?? "");
      return `unknown option "${named}" of ${command.name()}; available options: ${names.join(", ")}`;
    }
    case "commander.excessArguments":
      return excessArgumentsMessage(program, named, args);
    default:
      return error.message.replace(/^error: /, "");
  }
}

function excessArgumentsMessage(program: Command, name: string, args: readonly string[]): string {
  const takes = program.commands.find((one) => one.name() === name)?.registeredArguments.length ?? 0;
  if (takes > 0)
    return `${name} takes ${takes} argument${takes > 1 ? "s" : ""}; quote an argument that contains spaces`;
  return `${name} takes no arguments, got "${args.filter((arg) => !arg.startsWith("-"))[1] ?? ""}"`;
}

function settingsHelp(): string {
  return Object.entries<Setting<unknown>>(SETTINGS)
    .map(([name, { description, default: value, unit, allowed }]) => {
      const defaultText =
        value === undefined ? "" : ` Default: ${value}${unit === undefined ? "" : ` ${unit}`}.`;
      return `  ${name}\n      ${description} (${allowed})${defaultText}`;
    })
    .join("\n");
}

/** Exits quietly when the reader of standard output closes the pipe, as in `migrate --print | head`. */
function exitWhenPipeCloses(): void {
  process.stdout.on("error", (error: NodeJS.ErrnoException) => {
    if (error.code !== "EPIPE") throw error;
    process.exit();
  });
}
