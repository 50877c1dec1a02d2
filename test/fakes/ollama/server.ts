import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import { type Clock, systemClock } from "./clock.ts";
import { type Era, eras } from "./eras.ts";
import { FaultQueue, type Faults, type FaultTarget } from "./faults.ts";
import { isObject } from "./go-json.ts";
import { defaultModels, type FakeModel, type InstalledModel, ModelStore } from "./models.ts";
import { replyOfFault } from "./reply-faults.ts";
import { answer } from "./routes.ts";
import { Runners } from "./runners.ts";
import { cut, send } from "./sending.ts";
import { createEmbeddingSpace, type FakeEmbeddingSpace } from "./vectors.ts";
import type { RecordedRequest, World } from "./world.ts";

/** How the fake behaves. */
export interface FakeOllamaOptions {
  /** Default 0: a free one. */
  readonly port?: number;
  /** Default "v030". */
  readonly era?: Era;
  /** Default: one of the era, "0.33.0" for v030. */
  readonly version?: string;
  /** Models known beside the default ones (of the same name: in place of them). */
  readonly models?: readonly FakeModel[];
  /** Names of the models installed at the start; the others can be pulled. Default: all known ones. */
  readonly installed?: readonly string[];
  /** Milliseconds that loading a model takes. Default 0. */
  readonly loadMs?: number;
  /** Milliseconds that embedding a text takes. Default 0. */
  readonly perTextMs?: number;
  /** Milliseconds that pulling a model takes. Default 0. */
  readonly pullMs?: number;
  /** Requests that may wait for a load. Default 512. */
  readonly maxQueue?: number;
  /** Idle milliseconds after which a model is unloaded. Default 300000. */
  readonly keepAliveMs?: number;
  /** Another seed makes other vectors. Default "ollama". */
  readonly seed?: string;
  /** Default: real time. */
  readonly clock?: Clock;
}

/** A fake Ollama that listens on 127.0.0.1. */
export interface FakeOllama {
  /** `http://127.0.0.1:<port>`, the same after `down` and `up`. */
  readonly url: string;
  /** Every request whose body has arrived, in order. */
  readonly requests: readonly RecordedRequest[];
  readonly faults: Faults;
  readonly clock: Clock;
  readonly models: ModelStore;
  /** Milliseconds that the next load takes; may be changed at any time. */
  loadMs: number;
  /** Resolves with the first request, past or to come, that passes the test. */
  whenRequest(test: (request: RecordedRequest) => boolean): Promise<RecordedRequest>;
  /** The vector that `/api/embed` gives for a text when nothing is wrong. @throws if there is no such model */
  embedding(text: string, model?: string): Float32Array;
  /** Dies: cuts all connections, refuses new ones, forgets the loaded models. */
  down(): Promise<void>;
  /** Comes back on the same port. */
  up(): Promise<void>;
  close(): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
}

type Recording = { -readonly [Key in keyof RecordedRequest]: RecordedRequest[Key] };

/** Starts a fake. The caller closes it. @throws if the port is taken */
export async function startFakeOllama(options: FakeOllamaOptions = {}): Promise<FakeOllama> {
  const clock = options.clock ?? systemClock;
  const era = eras[options.era ?? "v030"];
  const known = [...defaultModels, ...(options.models ?? [])];
  const faults = new FaultQueue();
  const requests: RecordedRequest[] = [];
  const watchers = new Set<(request: RecordedRequest) => void>();
  const sockets = new Set<Socket>();
  const spaces = new Map<InstalledModel, FakeEmbeddingSpace>();

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
    spaceOf: (model) => {
      let space = spaces.get(model);
      if (!space) {
        space = createEmbeddingSpace({
          seed: `${options.seed ?? "ollama"}/${model.name}`,
          dimensions: model.dimensions,
          wantsPrefix: model.wantsPrefix ?? false,
          cjkUnknown: model.cjkUnknown ?? false,
        });
        spaces.set(model, space);
      }
      return space;
    },
  };

  const handle = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const path = (request.url ?? "/").replace(/\?.*$/, "");
    const gone = new AbortController();
    const done = Promise.withResolvers<void>();
    const body = await bodyOf(request);
    const json = parsed(body);
    const record: Recording = {
      t: clock.now(),
      method: request.method ?? "GET",
      path,
      headers: request.headers,
      body,
      json,
      aborted: false,
      status: 0,
      done: done.promise,
    };
    response.once("close", () => {
      if (!response.writableFinished) {
        record.aborted = !response.headersSent || request.socket.destroyed;
        if (record.status === 0) record.status = 499;
      }
      gone.abort(new Error("client closed the connection"));
      done.resolve();
    });
    requests.push(record);
    for (const watch of watchers) watch(record);

    const target = targetOf(path, json);
    const fault = faults.take(target);
    if (fault?.kind === "down") return await down();
    if (fault?.kind === "slow") await clock.sleep(fault.ms, gone.signal);
    if (fault?.kind === "hang" && fault.phase === "answer") return;
    if ((fault?.kind === "reset" || fault?.kind === "close") && fault.phase === "headers") {
      return cut(response, fault);
    }
    const call = { world, path, body, fault, changes: faults.lasting(target), signal: gone.signal };
    const reply = replyOfFault(fault, path) ?? (await answer(record.method, call));
    record.status = reply.status;
    await send(response, reply, fault, clock, gone.signal);
  };

  const server = createServer((request, response) => {
    handle(request, response).catch((error: unknown) => {
      if (response.destroyed || request.destroyed) return;
      response.destroy(error instanceof Error ? error : undefined);
    });
  });
  // Ollama has no time-outs of its own.
  server.keepAliveTimeout = 0;
  server.requestTimeout = 0;
  server.headersTimeout = 0;
  server.on("connection", (socket) => {
    sockets.add(socket);
    socket.once("close", () => sockets.delete(socket));
  });

  const listen = (port: number) =>
    new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      server.listen(port, "127.0.0.1", () => {
        server.off("error", reject);
        resolve();
      });
    });
  await listen(options.port ?? 0);
  const { port } = server.address() as AddressInfo;

  const down = async (): Promise<void> => {
    if (!server.listening) return;
    const closed = new Promise<void>((resolve) => server.close(() => resolve()));
    for (const socket of sockets) socket.resetAndDestroy();
    runners.unloadAll();
    await closed;
  };

  const fake: FakeOllama = {
    url: `http://127.0.0.1:${port}`,
    requests,
    faults,
    clock,
    models,
    loadMs: options.loadMs ?? 0,
    whenRequest: (test) => {
      const earlier = requests.find(test);
      if (earlier) return Promise.resolve(earlier);
      return new Promise((resolve) => {
        const watch = (request: RecordedRequest) => {
          if (!test(request)) return;
          watchers.delete(watch);
          resolve(request);
        };
        watchers.add(watch);
      });
    },
    embedding: (text, name = "nomic-embed-text") => {
      const model = models.find(name);
      if (!model) throw new Error(`the fake has no model "${name}"`);
      return Float32Array.from(world.spaceOf(model).embed(text));
    },
    down,
    up: async () => {
      if (!server.listening) await listen(port);
    },
    close: down,
    [Symbol.asyncDispose]: down,
  };
  return fake;
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

function targetOf(path: string, json: unknown): FaultTarget {
  if (!isObject(json)) return { path, model: undefined, texts: [] };
  const texts = [json.input, json.prompt].flat().filter((text) => typeof text === "string");
  return { path, model: typeof json.model === "string" ? json.model : undefined, texts };
}
