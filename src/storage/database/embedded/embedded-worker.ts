import { existsSync } from "node:fs";
import { chmod, mkdir, rename, rm } from "node:fs/promises";
import { parentPort, workerData } from "node:worker_threads";
import { messages, PGlite, protocol } from "@electric-sql/pglite";
import { pg_textsearch } from "@electric-sql/pglite-pg_textsearch";
import { vector } from "@electric-sql/pglite-pgvector";
import { SQLSTATE } from "../errors.ts";
import { MAX_PREPARED_STATEMENTS } from "../prepared-statements.ts";
import { connectionSettings } from "../server/connection-settings.ts";
import type { WireValue } from "../wire-values.ts";
import type {
  EmbeddedCommand,
  EmbeddedFailure,
  EmbeddedRequest,
  EmbeddedResponse,
  EmbeddedValue,
  EmbeddedWorkerData,
  TextRows,
} from "./embedded-messages.ts";

/**
 * Worker thread of the embedded engine. PGlite blocks the thread that calls it, so it has its own. The worker sends
 * protocol messages directly. `PGlite.query` sends six messages for each statement and plans it every time: a lookup by
 * primary key takes 0.09 ms instead of 0.37 ms, and 3,300 instead of 1,800 inserts with a vector run per second.
 */

/**
 * Settings of BM25 indexes. The cache for rows that are not yet in a segment of the index leaks WebAssembly memory if
 * writes and searches alternate (5 KB per search in pg_textsearch 1.5.1). Without the cache, each search reads the
 * pages of these rows. With at most 8 pages instead of the default of 64, a search takes 2.0 ms instead of 3.7 ms and
 * more; with the cache, 1.5 ms.
 */
const textSearchSettings = {
  "pg_textsearch.memtable_cache_enabled": "off",
  "pg_textsearch.memtable_pages_threshold": "8",
};

const { serialize } = protocol;

/** Mode of the directory. It protects the files of PGlite, which every user may read. */
const OWNER_ONLY = 0o700;

async function openCluster(data: EmbeddedWorkerData): Promise<PGlite> {
  const directory = data.directory;
  if (directory === undefined) return await openPglite(undefined, data.dataDirectory);
  if (!existsSync(directory)) {
    // Creating a cluster is not atomic. It is renamed when it is complete, so a killed process leaves no partial
    // cluster.
    const unfinished = `${directory}.unfinished`;
    await rm(unfinished, { recursive: true, force: true });
    await mkdir(unfinished, { mode: OWNER_ONLY });
    await (await openPglite(unfinished, undefined)).close();
    await rename(unfinished, directory);
  } else {
    // Earlier versions created readable directories. The mode remains unchanged if another user owns the directory.
    await chmod(directory, OWNER_ONLY).catch(() => {});
  }
  return await openPglite(directory, undefined);
}

/** Decoder that keeps U+FEFF at the beginning of a text. The default of PGlite removes it as a byte order mark. */
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

/** Prepared statements by name, the least recently used first. */
type PreparedStatements = Map<string, string>;

/** PostgreSQL has stopped during a statement, so its memory is in an unknown state. */
class BrokenEngineError extends Error {
  override readonly name = "BrokenEngineError";
}

/** Last response to a completed request, before "readyForQuery". */
const complete: ReadonlySet<string> = new Set([
  "commandComplete",
  "emptyQuery",
  "parseComplete",
  "closeComplete",
]);

/** Sends the messages of one request and a sync. Returns the responses. */
async function send(pglite: PGlite, messages: Uint8Array[]) {
  // An error is one of the responses. PostgreSQL then skips the other messages and is ready again.
  const responses = await pglite.execProtocolStream(Buffer.concat([...messages, serialize.sync()]), {
    syncToFs: false,
  });
  // PGlite discards exceptions of WebAssembly (a stack overflow, a failed assertion) and returns the responses up to
  // then. Without this check, a broken engine would return no rows for every later statement.
  const last = responses.findLast(({ name }) => name !== "readyForQuery");
  if (responses.at(-1)?.name !== "readyForQuery" || !complete.has(last?.name ?? "")) {
    throw new BrokenEngineError("the embedded PostgreSQL stopped during a statement");
  }
  return responses;
}

async function prepare(pglite: PGlite, prepared: PreparedStatements, name: string, text: string) {
  const known = prepared.get(name);
  if (known === text) {
    prepared.delete(name);
    prepared.set(name, text);
    return;
  }
  if (known !== undefined) throw new Error(`the statement name "${name}" is used for another statement`);
  if (prepared.size >= MAX_PREPARED_STATEMENTS) {
    const [oldest] = prepared.keys();
    if (oldest !== undefined) await deallocate(pglite, prepared, oldest);
  }
  // Sent separately, so that the name is known to be prepared even if the rest of the statement fails.
  await send(pglite, [serialize.parse({ name, text })]);
  prepared.set(name, text);
}

async function deallocate(pglite: PGlite, prepared: PreparedStatements, name: string) {
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
    // The result would have other types now, for example because a table was recreated with other dimensions.
    await deallocate(pglite, prepared, name);
    if (pglite.isInTransaction()) throw error;
    await prepare(pglite, prepared, name, text);
    return await runPrepared(pglite, text, name, values);
  }
}

/** Runs a script. Returns the command tag of its last statement. */
async function execute(pglite: PGlite, script: string): Promise<string> {
  const responses = await send(pglite, [serialize.query(script)]);
  return responses.findLast((answer) => answer instanceof messages.CommandCompleteMessage)?.text ?? "";
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
  if (port === null) throw new Error("the embedded engine must run in a worker thread");
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
        // Ends only this thread. An exception would depend on the handlers that the WebAssembly runtime has installed.
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
