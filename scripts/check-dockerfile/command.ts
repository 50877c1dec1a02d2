import { spawn } from "node:child_process";

/** The outcome of a program. */
export interface Outcome {
  /** Exit code; undefined if a signal or the timeout ended the program. */
  readonly code: number | undefined;
  /** Standard output and standard error, in the order of their arrival. */
  readonly output: string;
  /** Standard output only. */
  readonly result: string;
  readonly milliseconds: number;
}

export interface CommandOptions {
  /** The complete environment. Defaults to that of the caller. */
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
  /** Text for standard input. Defaults to none. */
  readonly input?: string;
  /** Defaults to no limit. */
  readonly timeoutMs?: number;
}

/** A step failed. The caller only has to print the message. */
export class StepError extends Error {}

/** Runs a program and waits for it. */
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
    // A program may exit without reading its input.
    child.stdin.on("error", () => {});
    child.stdin.end(options.input ?? "");
    child.once("error", (error) => reject(new StepError(`cannot run ${program}: ${error.message}`)));
    child.once("close", (code) =>
      resolve({ code: code ?? undefined, output, result, milliseconds: performance.now() - started }),
    );
  });
}

/**
 * Runs a program that must succeed. Returns its standard output.
 *
 * @throws StepError with the end of its output.
 */
export async function mustRun(command: readonly string[], options: CommandOptions = {}): Promise<string> {
  const { code, output, result } = await run(command, options);
  if (code !== 0) throw new StepError(`${command.join(" ")} exited with ${code}:\n${lastLines(output)}`);
  return result;
}

/** Returns the last lines of an output, where programs report why they failed. */
export function lastLines(output: string, count = 40): string {
  return output.trimEnd().split("\n").slice(-count).join("\n");
}
