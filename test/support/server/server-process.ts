import { type ChildProcess, spawn } from "node:child_process";
import { EventEmitter, on, once } from "node:events";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcTransport, Http2SessionManager } from "@connectrpc/connect-node";
import { MemoryService } from "memory-service-client/memoryservice/v1/memory_service_pb.js";

const main = fileURLToPath(new URL("../../../src/main.ts", import.meta.url));

/** A start that takes longer has failed; a first start of the embedded engine takes seconds on a busy machine. */
const START_TIMEOUT_MS = 120_000;

/** One line of the server's log. */
export type LogLine = Readonly<Record<string, unknown>> & { readonly msg?: string };

/** How a process ended. */
export interface Exit {
  /** Null if a signal ended it. */
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

/** The real server in a separate process. */
export interface ServerProcess extends AsyncDisposable {
  /** `http://127.0.0.1:<port>` */
  readonly url: string;
  readonly port: number;
  readonly pid: number;
  /** Every line of the log so far. */
  readonly logs: readonly LogLine[];
  /** All output on standard error so far. */
  readonly stderr: () => string;
  readonly exited: Promise<Exit>;
  /** Resolves with the first line, past or future, that passes the test. */
  whenLogged(passes: (line: LogLine) => boolean): Promise<LogLine>;
  /** Sends SIGKILL; resolves when the process has exited. */
  kill(): Promise<Exit>;
  /** Sends SIGTERM; resolves when the process has exited. */
  stop(): Promise<Exit>;
}

export interface ServerProcessOptions {
  /** Settings of the server. Without any, it uses the embedded database and has no embedder. */
  readonly env?: Readonly<Record<string, string>>;
  /** Options of Node itself, such as `--expose-gc`. */
  readonly nodeOptions?: readonly string[];
  /** Content of standard input; defaults to nothing. */
  readonly stdin?: string;
}

/** Starts `serve` on a free port and waits until it serves. @throws with its output if it exits first */
export async function startServerProcess(options: ServerProcessOptions = {}): Promise<ServerProcess> {
  const { child, stderr, exited } = launch(["serve"], options);
  const logs: LogLine[] = [];
  const logged = new EventEmitter();
  if (child.stdout === null) throw new Error("the server has no standard output");
  createInterface(child.stdout).on("line", (text) => {
    logs.push(logLineFrom(text));
    logged.emit("line");
  });

  const whenLogged = async (passes: (line: LogLine) => boolean): Promise<LogLine> => {
    const signal = AbortSignal.timeout(START_TIMEOUT_MS);
    for (let next = 0; ; ) {
      for (; next < logs.length; next++) {
        const line = logs[next];
        if (line !== undefined && passes(line)) return line;
      }
      for await (const _ of on(logged, "line", { signal })) break;
    }
  };
  const end = async (signal: NodeJS.Signals): Promise<Exit> => {
    child.kill(signal);
    return await exited;
  };

  const serving = await Promise.race([
    whenLogged((line) => line.msg === "serving"),
    exited.then(({ code, signal }) => {
      throw new Error(`the server ended with ${code ?? signal}: ${stderr()}\n${JSON.stringify(logs)}`);
    }),
  ]).catch(async (error: unknown) => {
    await end("SIGKILL");
    throw error;
  });
  const url = String(serving.url);
  return {
    url,
    port: Number(new URL(url).port),
    pid: child.pid ?? 0,
    logs,
    stderr,
    exited,
    whenLogged,
    kill: () => end("SIGKILL"),
    stop: () => end("SIGTERM"),
    async [Symbol.asyncDispose]() {
      await end("SIGKILL");
    },
  };
}

/** Runs the program until it exits; kills it after START_TIMEOUT_MS. */
export async function runProgram(
  args: readonly string[],
  options: ServerProcessOptions = {},
): Promise<Exit & { readonly stdout: string; readonly stderr: string }> {
  const { child, stderr, exited } = launch(args, options);
  let stdout = "";
  child.stdout?.setEncoding("utf8").on("data", (text: string) => {
    stdout += text;
  });
  const timer = setTimeout(() => child.kill("SIGKILL"), START_TIMEOUT_MS);
  const exit = await exited;
  clearTimeout(timer);
  return { ...exit, stdout, stderr: stderr() };
}

/** Starts the program; the caller reads its standard output at its own pace. */
export function startProgram(args: readonly string[], options: ServerProcessOptions = {}) {
  return launch(args, options);
}

function launch(args: readonly string[], options: ServerProcessOptions) {
  const child = spawn(process.execPath, [...(options.nodeOptions ?? []), main, ...args], {
    env: { ...neutralEnvironment(), ...options.env },
    stdio: [options.stdin === undefined ? "ignore" : "pipe", "pipe", "pipe"],
  });
  child.stdin?.end(options.stdin);
  let stderr = "";
  child.stderr?.setEncoding("utf8").on("data", (text: string) => {
    stderr += text;
  });
  const exited = whenClosed(child);
  return { child, stderr: () => stderr, exited };
}

async function whenClosed(child: ChildProcess): Promise<Exit> {
  const [code, signal] = (await once(child, "close")) as [number | null, NodeJS.Signals | null];
  return { code, signal };
}

/** Returns the environment without server settings, with a free port and an embedder address where nothing listens. */
function neutralEnvironment(): Record<string, string | undefined> {
  const ours = /^(MEMORY_|POSTGRES_|OLLAMA_|DATABASE_URL$|DEFAULT_MEMORY_DOMAIN$|NODE_OPTIONS$|PG)/;
  const kept = Object.entries(process.env).filter(([name]) => !ours.test(name));
  return {
    ...Object.fromEntries(kept),
    MEMORY_PORT: "0",
    OLLAMA_API_URL: "http://127.0.0.1:1",
    // Saves a sixth of the work of each start.
    NODE_COMPILE_CACHE: join(tmpdir(), "memory-service-test", "compile-cache"),
  };
}

function logLineFrom(text: string): LogLine {
  try {
    return JSON.parse(text) as LogLine;
  } catch {
    return { msg: text };
  }
}

/** Opens a gRPC client on its own connection. */
export function openGrpcClient(baseUrl: string) {
  const session = new Http2SessionManager(baseUrl);
  const client = createClient(MemoryService, createGrpcTransport({ baseUrl, sessionManager: session }));
  return { client, close: () => session.abort(), [Symbol.dispose]: () => session.abort() };
}

export type GrpcClient = ReturnType<typeof openGrpcClient>["client"];

/** Returns true if the call was cut before an answer; connect-node names such errors after the end of the socket. */
export function isConnectionLost(error: unknown): boolean {
  const { code, details } = ConnectError.from(error);
  return details.length === 0 && [Code.Unavailable, Code.Aborted, Code.Canceled].includes(code);
}
