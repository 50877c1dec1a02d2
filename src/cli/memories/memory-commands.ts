import { type Command, Option } from "commander";
import type { ExportOptions } from "./export.ts";
import type { ImportOptions } from "./import.ts";
import type { CommonOptions, ListOptions, SearchOptions, StoreOptions } from "./memories.ts";

const SERVER: readonly [string, string] = [
  "--server <url>",
  "the server to ask; default: the one at MEMORY_HOST and MEMORY_PORT",
];
const DOMAIN: readonly [string, string] = [
  "--domain <name>",
  "its domain; default: the server's default one",
];
const FILTER: readonly [string, string] = [
  "--filter <json>",
  "which memories: a Filter in protobuf's JSON form",
];
const ifExists = () =>
  new Option(
    "--if-exists <what>",
    "what to do if the id is taken by a memory that differs (default: fail)",
  ).choices(["fail", "replace", "keep"]);

/** The commands that ask a running server about memories. `setExitCode`: for those that end with more than 0. */
export function addMemoryCommands(program: Command, setExitCode: (exitCode: number) => void): void {
  const add = (usage: string, description: string) =>
    program
      .command(usage)
      .description(description)
      .option(...SERVER);
  const addShown = (usage: string, description: string) =>
    add(usage, description).option("--json", "as JSON, which is what is written where there is no terminal");

  addShown("store [content]", "store a memory; without content, what standard input holds")
    .option(...DOMAIN)
    .option("--id <id>", "its id; default: a new one")
    .option("--source <source>", "where it comes from")
    .option("--importance <number>", "how much it matters, from 0 to 1")
    .option("--tag <tag...>", "labels")
    .option("--metadata <json>", "whatever else to keep with it, as a JSON object")
    .option("--ttl <time>", "how long it exists, as 90s, 30m, 12h or 7d")
    .addOption(ifExists())
    .action(async (content: string | undefined, options: StoreOptions) =>
      (await import("./memories.ts")).store(content, options),
    );
  addShown("search <query>", "find memories by their meaning and their words")
    .option(...DOMAIN)
    .option("--limit <number>", "how many at most (default: 5)")
    .addOption(new Option("--mode <mode>", "what to search by").choices(["hybrid", "semantic", "text"]))
    .option(...FILTER)
    .action(async (query: string, options: SearchOptions) =>
      (await import("./memories.ts")).search(query, options),
    );
  addShown("get <id>", "show a memory")
    .option(...DOMAIN)
    .action(async (id: string, options: CommonOptions) => (await import("./memories.ts")).get(id, options));
  addShown("list", "list memories, newest first; as JSON one a line")
    .option(...DOMAIN)
    .option("--limit <number>", "how many at most (default: 50)")
    .option(...FILTER)
    .action(async (options: ListOptions) => (await import("./memories.ts")).list(options));
  addShown("delete <id...>", "delete memories for good")
    .option(...DOMAIN)
    .action(async (ids: string[], options: CommonOptions) =>
      (await import("./memories.ts")).remove(ids, options),
    );
  addShown("domains", "list the domains with what is in them").action(async (options: CommonOptions) =>
    (await import("./memories.ts")).domains(options),
  );
  add("export", "write the memories of a domain to standard output, one JSON object a line")
    .option(...DOMAIN)
    .option(...FILTER)
    .option("--embeddings", "with their embeddings, for an import that need not make them again")
    .option("--cursor <cursor>", "go on where an export was cut")
    .action(async (options: ExportOptions) => (await import("./export.ts")).exportDomain(options));
  add("import <file>", "store what export has written; - reads standard input")
    .option("--domain <name>", "store everything in this domain; default: in the domain of each record")
    .addOption(ifExists())
    .addOption(
      new Option(
        "--on-error <what>",
        "what to do about a line that cannot be stored (default: stop)",
      ).choices(["stop", "continue"]),
    )
    .option("--from-line <number>", "leave out the lines before it, which were imported before")
    .addHelpText(
      "after",
      "\nExit code: 0 if every line is stored or was there, 1 if not. Repeating it is safe.",
    )
    .action(async (file: string, options: ImportOptions) =>
      setExitCode(await (await import("./import.ts")).importFile(file, options)),
    );
}
