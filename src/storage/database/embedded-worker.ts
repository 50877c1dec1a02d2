import { existsSync } from "node:fs";
import { chmod, mkdir, rename, rm } from "node:fs/promises";
import { parentPort, workerData } from "node:worker_threads";
import { messages, PGlite, protocol } from "@electric-sql/pglite";
import { pg_textsearch } from "@electric-sql/pglite-pg_textsearch";
import { vector } from "@electric-sql/pglite-pgvector";
import { connectionSettings } from "./connection-settings.ts";
import type {
  EmbeddedCommand,
  EmbeddedFailure,
  EmbeddedRequest,
  EmbeddedResponse,
  EmbeddedValue,
  EmbeddedWorkerData,
  TextRows,
} from "./embedded-messages.ts";
import { SQLSTATE } from "./errors.ts";
import { MAX_PREPARED_STATEMENTS } from "./prepared-statements.ts";
import type { WireValue } from "./wire-values.ts";

/**
 * The thread of the embedded engine: PGlite runs every statement in the thread that asks, so it gets one of its
 * own. Statements go to it in wire messages and not through `PGlite.query`, which sends six messages for each
 * and plans it anew: by primary key 0.09 ms instead of 0.37, inserts with a vector 3,300/s instead of 1,800.
 */

/**
 * Of BM25 indexes. The cache of what is not in an index's segments yet leaks WebAssembly memory where writes and searches
 * take turns (pg_textsearch 1.5.1: 5 KB a search). Without it each search reads those pages: eight and not the usual 64
 * are a search of 2.0 ms and not of 3.7 and more, where the cache needs 1.5.
 */
const textSearchSettings = {
  "pg_textsearch.memtable_cache_enabled": "off",
  "pg_textsearch.memtable_pages_threshold": "8",
};

const { serialize } = protocol;

/** PGlite's files are open to everybody: what is in the way of others is the directory around them. */
const OWNER_ALONE = 0o700;

async function openCluster(data: EmbeddedWorkerData): Promise<PGlite> {
  const directory = data.directory;
  if (directory === undefined) return await openPglite(undefined, data.dataDirectory);
  if (!existsSync(directory)) {
    // Making a cluster is not atomic: done beside and renamed, a process killed meanwhile leaves no half of one.
    const unfinished = `${directory}.unfinished`;
    await rm(unfinished, { recursive: true, force: true });
    await mkdir(unfinished, { mode: OWNER_ALONE });
    await (await openPglite(unfinished, undefined)).close();
    await rename(unfinished, directory);
  } else {
    // Earlier versions let others in. One that belongs to somebody else is left as its owner has it.
    await chmod(directory, OWNER_ALONE).catch(() => {});
  }
  return await openPglite(directory, undefined);
}

/** That of PGlite would take U+FEFF in front of a text for a mark of the encoding, and drop it. */
class WholeTextDecoder extends TextDecoder {
  constructor(label?: string, options?: ConstructorParameters<typeof TextDecoder>[1]) {
    super(label, { ...options, ignoreBOM: true });
  }
}
globalThis.TextDecoder = WholeTextDecoder;

function openPglite(directory: string | undefined, dataDirectory: ArrayBuffer | undefined): Promise<PGlite> {
  const settings = Object.entries({ ...connectionSettings, ...textSearchSettings });
  return PGlite.create({
    ...(directory === undefined ? {} : { dataDir: directory }),
    ...(dataDirectory === undefined ? {} : { loadDataDir: new Blob([dataDirectory]) }),
    extensions: { vector, pg_textsearch },
    startParams: [
      ...PGlite.defaultStartParams,
      ...settings.flatMap(([name, value]) => ["-c", `${name}=${value}`]),
    ],
  });
}

/** Statements by name, in the order of their last use. */
type PreparedStatements = Map<string, string>;

/** PostgreSQL has stopped in the middle of a statement: its memory is in an unknown state. */
class BrokenEngineError extends Error {
  override readonly name = "BrokenEngineError";
}

/** How the answers to a request end that PostgreSQL has worked off, before it is ready for the next. */
const complete: ReadonlySet<string> = new Set([
  "commandComplete",
  "emptyQuery",
  "parseComplete",
  "closeComplete",
]);

/** Sends the messages of one request and a sync; returns the answers to the request. */
async function send(pglite: PGlite, messages: Uint8Array[]) {
  // An error is one of the answers: after it PostgreSQL skips the rest and is ready again.
  const answers = await pglite.execProtocolStream(Buffer.concat([...messages, serialize.sync()]), {
    syncToFs: false,
  });
  // PGlite swallows what WebAssembly throws (a stack overflow, a failed assertion) and returns what had been
  // answered until then. Without this check a broken engine would answer every later statement with no rows.
  const last = answers.findLast(({ name }) => name !== "readyForQuery");
  if (answers.at(-1)?.name !== "readyForQuery" || !complete.has(last?.name ?? "")) {
    throw new BrokenEngineError("the embedded PostgreSQL stopped in the middle of a statement");
  }
  return answers;
}

async function prepare(pglite: PGlite, prepared: PreparedStatements, name: string, text: string) {
  const known = prepared.get(name);
  if (known === text) {
    prepared.delete(name);
    prepared.set(name, text);
    return;
  }
  if (known !== undefined) throw new Error(`the statement name "${name}" was used for another statement`);
  if (prepared.size >= MAX_PREPARED_STATEMENTS) {
    const [oldest] = prepared.keys();
    if (oldest !== undefined) await forget(pglite, prepared, oldest);
  }
  // On its own: whether the name is taken must be known also when the rest of the statement fails.
  await send(pglite, [serialize.parse({ name, text })]);
  prepared.set(name, text);
}

async function forget(pglite: PGlite, prepared: PreparedStatements, name: string) {
  await send(pglite, [serialize.close({ type: "S", name })]);
  prepared.delete(name);
}

async function runPrepared(
  pglite: PGlite,
  text: string,
  name: string | undefined,
  values: readonly WireValue[],
) {
  const request = name === undefined ? [serialize.parse({ text })] : [];
  request.push(
    serialize.bind({ statement: name ?? "", values: [...values] as Array<string | ArrayBuffer | null> }),
    serialize.describe({ type: "P" }),
    serialize.execute({}),
  );
  return textRowsFrom(await send(pglite, request));
}

function textRowsFrom(answers: Awaited<ReturnType<typeof send>>): TextRows {
  const rows: TextRows["rows"] = [];
  let columns: TextRows["columns"] = [];
  for (const answer of answers) {
    if (answer instanceof messages.RowDescriptionMessage) {
      columns = answer.fields.map(({ name, dataTypeID }) => ({ name, oid: dataTypeID }));
    } else if (answer instanceof messages.DataRowMessage) rows.push(answer.fields);
  }
  return { columns, rows };
}

async function query(
  pglite: PGlite,
  prepared: PreparedStatements,
  { text, name, values }: Extract<EmbeddedCommand, { kind: "query" }>,
): Promise<TextRows> {
  if (name === undefined) return await runPrepared(pglite, text, undefined, values);
  await prepare(pglite, prepared, name, text);
  try {
    return await runPrepared(pglite, text, name, values);
  } catch (error) {
    if (!isOutdatedPlan(error)) throw error;
    // The result would have other types now: a table was made again with other dimensions, say.
    await forget(pglite, prepared, name);
    if (pglite.isInTransaction()) throw error;
    await prepare(pglite, prepared, name, text);
    return await runPrepared(pglite, text, name, values);
  }
}

/** Returns the command tag of the script's last statement. */
async function execute(pglite: PGlite, script: string): Promise<string> {
  const answers = await send(pglite, [serialize.query(script)]);
  return answers.findLast((answer) => answer instanceof messages.CommandCompleteMessage)?.text ?? "";
}

function isOutdatedPlan(error: unknown): boolean {
  const { code, routine } = error as { readonly code?: unknown; readonly routine?: unknown };
  return code === SQLSTATE.featureNotSupported && routine === "RevalidateCachedQuery";
}

async function run(
  pglite: PGlite,
  prepared: PreparedStatements,
  command: EmbeddedCommand,
): Promise<EmbeddedValue> {
  switch (command.kind) {
    case "query":
      return await pglite.runExclusive(() => query(pglite, prepared, command));
    case "execute":
      return await pglite.runExclusive(() => execute(pglite, command.script));
    case "dump":
      return await (await pglite.dumpDataDir("none")).arrayBuffer();
    case "ping":
      return undefined;
    case "close":
      await pglite.close();
      return undefined;
  }
}

function failureFrom(error: unknown): EmbeddedFailure {
  if (!(error instanceof Error)) return { message: String(error) };
  const { code, severity, constraint, detail } = error as Partial<EmbeddedFailure>;
  return { message: error.message, code, severity, constraint, detail };
}

async function main(): Promise<void> {
  const port = parentPort;
  if (port === null) throw new Error("the embedded engine runs in a worker thread");
  const respond = (response: EmbeddedResponse, transfer: ArrayBuffer[] = []) =>
    port.postMessage(response, transfer);
  const pglite = await openCluster(workerData as EmbeddedWorkerData);
  const prepared: PreparedStatements = new Map();
  let last: Promise<void> = Promise.resolve();
  const answer = async ({ id, command }: EmbeddedRequest) => {
    try {
      const value = await run(pglite, prepared, command);
      respond({ id, value }, value instanceof ArrayBuffer ? [value] : []);
    } catch (error) {
      if (error instanceof BrokenEngineError) {
        respond({ broken: failureFrom(error) });
        // Ends this thread only. Throwing would depend on the handlers that WebAssembly's glue has installed.
        process.exit(1);
      }
      respond({ id, failure: failureFrom(error) });
    }
    if (command.kind === "close") port.close();
  };
  port.on("message", (request: EmbeddedRequest) => {
    last = last.then(() => answer(request));
  });
  respond({ ready: true });
}

await main();
