interface LogEntry {
  readonly level: number;
  readonly time: number;
  readonly msg?: string;
  readonly err?: { readonly message?: string; readonly stack?: string };
  readonly [field: string]: unknown;
}

const reset = "\u001b[0m";
const dim = "\u001b[2m";

/** Names of pino's numeric levels, padded to equal width, with their colours. */
const levels: Readonly<Record<number, { readonly name: string; readonly colour: string }>> = {
  20: { name: "debug", colour: dim },
  30: { name: "info ", colour: "\u001b[32m" },
  40: { name: "warn ", colour: "\u001b[33m" },
  50: { name: "error", colour: "\u001b[31m" },
};

/**
 * Creates a function that turns a JSON line of pino into a readable one, such as
 * `20:15:04.123 info  serving url=http://127.0.0.1:50051`. Times are in UTC, as everywhere else. The stack of an error
 * follows on separate lines.
 */
export function createLineFormatter(options: { readonly colours: boolean }): (line: string) => string {
  const paint = (colour: string, text: string) => (options.colours ? `${colour}${text}${reset}` : text);
  return (line) => {
    const { level, time, msg = "", err, ...fields } = JSON.parse(line) as LogEntry;
    const { name, colour } = levels[level] ?? { name: String(level), colour: dim };
    const clock = new Date(time).toISOString().slice(11, 23);
    const rest = Object.entries(fields).map(([key, value]) => `${key}=${inLine(value)}`);
    const words = [paint(dim, clock), paint(colour, name), msg, paint(dim, rest.join(" "))];
    const stack = err === undefined ? "" : `\n${indent(err.stack ?? err.message ?? inLine(err))}`;
    return `${words.join(" ").trimEnd()}${stack}\n`;
  };
}

function inLine(value: unknown): string {
  return typeof value === "string" && /^[^\s"=]+$/.test(value) ? value : JSON.stringify(value);
}

function indent(text: string): string {
  return text.replaceAll(/^/gm, "    ");
}
