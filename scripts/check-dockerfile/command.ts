import { spawn } from "node:child_process";

/** How a program ended. */
export interface Outcome {
  /** Undefined: ended by a signal, or stopped because it took too long. */
  readonly code: number | undefined;
  /** Standard output and standard error, in the order in which they came. */
  readonly output: string;
  /** Standard output alone. */
  readonly result: string;
  readonly milliseconds: number;
}

export interface CommandOptions {
  /** Nothing of the caller's environment is added. Default: the caller's. */
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
  /** Written to standard input, which is empty otherwise. */
  readonly input?: string;
  /** Default: no limit. */
  readonly timeoutMs?: number;
}

/** A step that failed: its message is all that the caller has to print. */
export class StepError extends Error {}

/** Runs a program to its end. */
export function run(command: readonly string[], options: CommandOptions = {}): Promise<Outcome> {
  const [program = "", ...parameters] = command;
  const started = performance.now();
  return new Promise((resolve, reject) => {
    const child = spawn(program, parameters, {
      env: options.env ?? process.env,
      cwd: options.cwd,
      timeout: options.timeoutMs,
      killSignal: "SIGKILL",
    });
    let output = "";
    let result = "";
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      output += text;
      result += text;
    });
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      output += text;
    });
    // A program that ends without reading its input is no failure of ours.
    child.stdin.on("error", () => {});
    child.stdin.end(options.input ?? "");
    child.once("error", (error) => reject(new StepError(`${program} cannot be run: ${error.message}`)));
    child.once("close", (code) =>
      resolve({ code: code ?? undefined, output, result, milliseconds: performance.now() - started }),
    );
  });
}

/**
 * Runs a program that has to succeed; returns its standard output.
 *
 * @throws StepError with the end of its output.
 */
export async function mustRun(command: readonly string[], options: CommandOptions = {}): Promise<string> {
  const { code, output, result } = await run(command, options);
  if (code !== 0) throw new StepError(`${command.join(" ")} ended with ${code}:\n${lastLines(output)}`);
  return result;
}

/** The end of an output, where programs say why they failed. */
export function lastLines(output: string, count = 40): string {
  return output.trimEnd().split("\n").slice(-count).join("\n");
}
