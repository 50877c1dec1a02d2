import { Command, CommanderError } from "commander";
import { SettingsError } from "../app/config.ts";
import { SETTINGS, type Setting } from "../app/settings.ts";
import { addMigrationCommands } from "../legacy/commands/migration-commands.ts";
import { ServiceError, StartupError } from "../memory/model/errors.ts";
import { DatabaseError } from "../storage/database/database.ts";
import { addKeyCommands } from "./key-commands.ts";
import { addMemoryCommands } from "./memories/memory-commands.ts";
import { UsageError } from "./usage-error.ts";
import { versions } from "./versions.ts";

/** A failure while running. */
const EXIT_FAILURE = 1;
/** Bad usage, or a setting that is not valid. */
const EXIT_USAGE = 2;

/**
 * Runs the program with the arguments of the process; returns its exit code. Whatever an operator can set right
 * is one sentence on standard error.
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
      return complain(usageMessage(program, error, argv.slice(2)), EXIT_USAGE);
    }
    if (error instanceof SettingsError || error instanceof UsageError)
      return complain(error.message, EXIT_USAGE);
    if (error instanceof StartupError) return complain(error.message, EXIT_FAILURE);
    if (error instanceof ServiceError || error instanceof DatabaseError) {
      const cause = error.cause instanceof Error ? ` (${error.cause.message})` : "";
      return complain(`${error.message}${cause}`, EXIT_FAILURE);
    }
    throw error;
  }
}

/** Commands are loaded when they run: a health check every few seconds must not load the whole server. */
function createProgram() {
  let exitCode = 0;
  const program = new Command("memory-service")
    .description("Long-term memory for AI agents and services, over gRPC.")
    .helpOption("-h, --help", "show this help")
    .helpCommand("help [command]", "show the help of a command")
    .version(versions(), "-V, --version", "show the versions")
    .showSuggestionAfterError(false)
    // Commander's own sentences say what is wrong and not what is allowed.
    .configureOutput({ writeErr: () => {} })
    .exitOverride();
  program
    .command("serve")
    .description("run the server")
    .addHelpText("after", `\nSettings (environment variables):\n${settingsHelp()}`)
    .action(async () => (await import("./serve.ts")).serve());
  program
    .command("migrate")
    .description("bring the database up to date")
    .option("--print", "print the SQL of what is pending as a script for psql, and change nothing")
    .action(async ({ print = false }: { print?: boolean }) =>
      (await import("./migrate.ts")).migrate({ print }),
    );
  program
    .command("doctor")
    .description(
      "say what is reachable, what is stored, what is wrong and what to do about it; changes nothing",
    )
    .option("--json", "as one JSON object")
    .addHelpText("after", "\nExit code: 0 if nothing is wrong (there may be warnings), 1 if something is.")
    .action(async ({ json = false }: { json?: boolean }) => {
      exitCode = await (await import("./doctor.ts")).doctor({ json });
    });
  program
    .command("version")
    .description("show the versions of the program, of Node and of the contract")
    .action(() => console.log(versions()));
  program
    .command("healthcheck")
    .description("ask the server at MEMORY_HOST and MEMORY_PORT whether it is ready")
    .addHelpText("after", "\nExit code: 0 if it is, 1 if not.")
    .action(async () => {
      exitCode = await (await import("./healthcheck.ts")).healthcheck();
    });
  addKeyCommands(program);
  const setExitCode = (code: number) => {
    exitCode = code;
  };
  addMemoryCommands(program, setExitCode);
  addMigrationCommands(program, setExitCode);
  return { program, exitCode: () => exitCode };
}

function complain(sentence: string, exitCode: number): number {
  console.error(`memory-service: ${sentence}`);
  return exitCode;
}

function usageMessage(program: Command, error: CommanderError, args: readonly string[]): string {
  const named = /'([^']*)'/.exec(error.message)?.[1] ?? "";
  const commands = joinWithOr(program.commands.map((command) => command.name()));
  switch (error.code) {
    case "commander.help":
      return args[0] === "help" && args[1] !== undefined
        ? `unknown command "${args[1]}", it must be ${commands}`
        : `no command is given, it must be ${commands}`;
    case "commander.unknownCommand":
      return `unknown command "${named}", it must be ${commands}`;
    case "commander.unknownOption": {
      const command = program.commands.find((one) => one.name() === args[0]) ?? program;
      const options = command.createHelp().visibleOptions(command);
      const allowed = joinWithOr(options.map(({ long, short }) => long ?? short ?? ""));
      return `unknown option "${named}" of ${command.name()}, it must be ${allowed}`;
    }
    case "commander.excessArguments":
      return excessArgumentsMessage(program, named, args);
    default:
      return error.message.replace(/^error: /, "");
  }
}

function excessArgumentsMessage(program: Command, name: string, args: readonly string[]): string {
  const takes = program.commands.find((one) => one.name() === name)?.registeredArguments.length ?? 0;
  if (takes > 0) return `${name} takes ${takes} argument${takes > 1 ? "s" : ""}, quote one that has spaces`;
  return `${name} takes no argument, is given "${args.filter((arg) => !arg.startsWith("-"))[1] ?? ""}"`;
}

function joinWithOr(choices: readonly string[]): string {
  return choices.length < 2 ? choices.join("") : `${choices.slice(0, -1).join(", ")} or ${choices.at(-1)}`;
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

/** `migrate --print | head` is no error. */
function exitWhenPipeCloses(): void {
  process.stdout.on("error", (error: NodeJS.ErrnoException) => {
    if (error.code !== "EPIPE") throw error;
    process.exit();
  });
}
