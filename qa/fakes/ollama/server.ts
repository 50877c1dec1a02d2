import type { IncomingMessage, ServerResponse } from "node:http";
import { type Clock, systemClock } from "./clock.ts";
import { type Era, eras } from "./eras.ts";
import { type Fault, FaultQueue, type Faults, type FaultTarget } from "./faults.ts";
import { isObject } from "./go-json.ts";
import { openListener } from "./listener.ts";
import { defaultModels, type FakeModel, type InstalledModel, ModelStore } from "./models.ts";
import { replyOfFault } from "./reply-faults.ts";
import { type OpenRecord, type RecordedRequest, RequestLog } from "./request-log.ts";
import { answer } from "./routes.ts";
import { Runners } from "./runners.ts";
import { cut, send } from "./sending.ts";
import { createEmbeddingSpace, type FakeEmbeddingSpace } from "./vectors.ts";
import type { World } from "./world.ts";

/** Options of the fake. */
export interface FakeOllamaOptions {
  /** Defaults to 0, a free port. */
  readonly port?: number;
  /** Defaults to "v030". */
  readonly era?: Era;
  /** Defaults to a version of the era, "0.33.0" for v030. */
  readonly version?: string;
  /** Known models in addition to the default ones; they replace those of the same name. */
  readonly models?: readonly FakeModel[];
  /** Names of the models installed at the start; others can be pulled. Defaults to all known ones. */
  readonly installed?: readonly string[];
  /** Milliseconds that loading a model takes. Defaults to 0. */
  readonly loadMs?: number;
  /** Milliseconds that embedding a text takes. Defaults to 0. */
  readonly perTextMs?: number;
  /** Milliseconds that pulling a model takes. Defaults to 0. */
  readonly pullMs?: number;
  /** Maximum number of requests that wait for a load. Defaults to 512. */
  readonly maxQueue?: number;
  /** Idle milliseconds after which a model is unloaded. Defaults to 300000. */
  readonly keepAliveMs?: number;
  /** Another seed creates different vectors. Defaults to "ollama". */
  readonly seed?: string;
  /** Defaults to real time. */
  readonly clock?: Clock;
}

/** A fake Ollama that listens on 127.0.0.1. */
export interface FakeOllama {
  /** `http://127.0.0.1:<port>`, the same after `down` and `up`. */
  readonly url: string;
  /** Every request with a complete body, in order. */
  readonly requests: readonly RecordedRequest[];
  readonly faults: Faults;
  readonly clock: Clock;
  readonly models: ModelStore;
  /** Milliseconds that the next load takes; may be changed at any time. */
  loadMs: number;
  /** Resolves with the first request, past or future, that passes the test. */
  whenRequest(test: (request: RecordedRequest) => boolean): Promise<RecordedRequest>;
  /** Returns the vector of `/api/embed` for a text without faults. @throws if there is no such model */
  embedding(text: string, model?: string): Float32Array;
  /** Stops: cuts all connections, refuses new ones, unloads all models. */
  down(): Promise<void>;
  /** Returns on the same port. */
  up(): Promise<void>;
  close(): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
}

/** Starts a fake. The caller closes it. @throws if the port is taken */
export async function startFakeOllama(options: FakeOllamaOptions = {}): Promise<FakeOllama> {
  const clock = options.clock ?? systemClock;
  const era = eras[options.era ?? "v030"];
  const faults = new FaultQueue();
  const log = new RequestLog();

  const known = [...defaultModels, ...(options.models ?? [])];
  const models = new ModelStore(known);
  for (const name of options.installed ?? known.map((model) => model.name)) models.add(name);

  const runners = new Runners({ clock, loadMs: () => fake.loadMs, maxQueue: options.maxQueue ?? 512 });
  const world: World = {
    clock,
    era,
    models,
    runners,
    keepAliveMs: options.keepAliveMs ?? 300_000,
    perTextMs: options.perTextMs ?? 0,
    pullMs: options.pullMs ?? 0,
    version: () => {
      const version = options.version ?? era.version;
      return faults.drifted ? version.replace(/\d+$/, (patch) => String(Number(patch) + 1)) : version;
    },
    spaceOf: createSpaces(options.seed ?? "ollama"),
  };

  const handle = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const body = await bodyOf(request);
    const { record, signal } = follow(request, response, body);
    log.add(record);

    const target = targetOf(record);
    const fault = faults.take(target);
    if (fault && cutsConnection(fault)) listener.markKilled(request.socket);
    if (fault?.kind === "down") return await fake.down();
    if (fault?.kind === "slow") await clock.sleep(fault.ms, signal);
    if (fault?.kind === "hang" && fault.phase === "answer") return;
    if ((fault?.kind === "reset" || fault?.kind === "close") && fault.phase === "headers") {
      return cut(response, fault);
    }
    const call = { world, path: record.path, body, fault, changes: faults.lasting(target), signal };
    const reply = replyOfFault(fault, record.path) ?? (await answer(record.method, call));
    record.status = reply.status;
    await send(response, reply, fault, clock, signal);
  };

  /** Creates and updates the record of a request; the signal aborts with the connection or the response. */
  const follow = (request: IncomingMessage, response: ServerResponse, body: string) => {
    const done = Promise.withResolvers<void>();
    const gone = new AbortController();
    const record: OpenRecord = {
      t: clock.now(),
      method: request.method ?? "GET",
      path: (request.url ?? "/").replace(/\?.*$/, ""),
      headers: request.headers,
      body,
      json: parsed(body),
      aborted: false,
      status: 0,
      done: done.promise,
    };
    response.once("close", () => {
      if (!response.writableFinished && !listener.isKilled(request.socket)) {
        record.aborted = true;
        record.status = 499;
      }
      gone.abort(new Error("the client closed the connection"));
      done.resolve();
    });
    return { record, signal: gone.signal };
  };

  const listener = await openListener(options.port ?? 0, (request, response) => {
    handle(request, response).catch((error: unknown) => {
      if (response.destroyed || response.headersSent) response.destroy();
      else response.writeHead(500).end(`the fake itself failed: ${error}`);
    });
  });

  const down = async (): Promise<void> => {
    await listener.down();
    runners.unloadAll();
  };

  const fake: FakeOllama = {
    url: `http://127.0.0.1:${listener.port}`,
    requests: log.requests,
    faults,
    clock,
    models,
    loadMs: options.loadMs ?? 0,
    whenRequest: (test) => log.when(test),
    embedding: (text, name = "nomic-embed-text") => {
      const model = models.find(name);
      if (!model) throw new Error(`the fake has no model "${name}"`);
      return Float32Array.from(world.spaceOf(model).embed(text));
    },
    down,
    up: () => listener.up(),
    close: down,
    [Symbol.asyncDispose]: down,
  };
  return fake;
}

/** Each model has its own space, and another digest means another model. */
function createSpaces(seed: string): (model: InstalledModel) => FakeEmbeddingSpace {
  const spaces = new Map<InstalledModel, FakeEmbeddingSpace>();
  return (model) => {
    const known = spaces.get(model);
    if (known) return known;
    const space = createEmbeddingSpace({
      seed: `${seed}/${model.name}@${model.digest}`,
      dimensions: model.dimensions,
      wantsPrefix: model.wantsPrefix ?? false,
      cjkUnknown: model.cjkUnknown ?? false,
    });
    spaces.set(model, space);
    return space;
  };
}

function cutsConnection({ kind }: Fault): boolean {
  return kind === "down" || kind === "reset" || kind === "close";
}

async function bodyOf(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk);
  return Buffer.concat(chunks).toString("utf8");
}

function parsed(body: string): unknown {
  try {
    return JSON.parse(body);
  } catch {
    return undefined;
  }
}

function targetOf({ path, json }: RecordedRequest): FaultTarget {
  if (!isObject(json)) return { path, model: undefined, texts: [] };
  const texts = [json.input, json.prompt].flat().filter((text) => typeof text === "string");
  return { path, model: typeof json.model === "string" ? json.model : undefined, texts };
}
