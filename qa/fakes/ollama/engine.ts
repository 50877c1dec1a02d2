import { isObject } from "./go-json.ts";
import { type InstalledModel, isModelName } from "./models.ts";
import { Refusal } from "./reply.ts";
import { specialTokens, tokenEnds } from "./tokens.ts";
import { ofLength, rotated, shortened } from "./vectors.ts";
import type { Call } from "./world.ts";

/** An endpoint's request to the engine. */
export interface EngineRequest {
  readonly model: InstalledModel;
  readonly texts: readonly string[];
  /** Whether an overlong text is truncated rather than refused. */
  readonly truncate: boolean;
  readonly tooLongStatus: number;
  readonly dimensions?: number | undefined;
  /** The request's `options`. */
  readonly options: unknown;
  readonly keepAliveMs: number | undefined;
}

/** The result of the engine. */
export interface EngineResult {
  readonly vectors: readonly Float64Array[];
  readonly promptTokens: number;
  readonly totalNs: number;
  readonly loadNs: number;
}

/**
 * Returns the installed model of that name.
 *
 * @throws Refusal 400 if the name is invalid, 404 if no such model is installed
 */
export function installedModel(call: Call, name: string): InstalledModel {
  if (!isModelName(name)) throw new Refusal(400, "invalid model name");
  const model = call.world.models.find(name);
  if (!model || call.fault?.kind === "notFound") {
    throw new Refusal(404, `model "${name}" not found, try pulling it first`);
  }
  return model;
}

/** Loads the model, then embeds the texts one by one. One failing text fails all. @throws Refusal */
export async function runEngine(call: Call, request: EngineRequest): Promise<EngineResult> {
  const { clock, era, runners, keepAliveMs } = call.world;
  const { model } = request;
  const began = clock.now();
  const options = runnerOptions(request.options);
  const load = {
    options: JSON.stringify(options),
    contextLength: contextOf(model, options),
    keepAliveMs: request.keepAliveMs ?? keepAliveMs,
    signal: call.signal,
  };
  return await runners.use(model, load, async (loadMs) => {
    if (model.embeds === false) throw new Refusal(era.noEmbeddings.status, era.noEmbeddings.error);
    const limit = tokenLimit(call, model, options);
    const prepared = request.texts.map((text) => fitted(text, limit, request, era.tooLong));
    const vectors: Float64Array[] = [];
    for (const [index, { text }] of prepared.entries()) {
      vectors.push(await runners.inTurn(model, call.signal, () => embedOne(call, request, text, index)));
    }
    return {
      vectors,
      promptTokens: prepared.reduce((sum, { tokens }) => sum + tokens + specialTokens, 0),
      totalNs: nanoseconds(clock.now() - began),
      loadNs: nanoseconds(loadMs),
    };
  });
}

async function embedOne(
  call: Call,
  request: EngineRequest,
  text: string,
  index: number,
): Promise<Float64Array> {
  const { clock, era, perTextMs, runners, spaceOf } = call.world;
  const { model, dimensions } = request;
  await clock.sleep(perTextMs, call.signal);
  if (call.fault?.kind === "eof" && index === (call.fault.at ?? 0)) {
    runners.unload(model);
    throw new Refusal(era.engineLost.status, era.engineLost.error);
  }
  if (isNaNText(call, text, index)) {
    if (era.nan) throw new Refusal(era.nan.status, era.nan.error);
    return new Float64Array(era.shortens && isShorter(dimensions, model) ? dimensions : model.dimensions);
  }
  const caseBug = call.changes.some(({ kind }) => kind === "caseBug");
  let vector = spaceOf(model).embed(text, { caseBug });
  for (const change of call.changes) {
    if (change.kind === "drift") vector = rotated(vector, change.angle);
    if (change.kind === "dimDrift") vector = ofLength(vector, change.dims);
  }
  return era.shortens && isShorter(dimensions, model) ? shortened(vector, dimensions) : vector;
}

function isShorter(dimensions: number | undefined, model: InstalledModel): dimensions is number {
  return dimensions !== undefined && dimensions > 0 && dimensions < model.dimensions;
}

function isNaNText({ fault }: Call, text: string, index: number): boolean {
  if (fault?.kind === "poison") return text.includes(fault.textIncludes);
  if (fault?.kind !== "nan") return false;
  const culprit = fault.match?.textIncludes;
  return culprit === undefined ? index === (fault.at ?? 0) : text.includes(culprit);
}

function fitted(
  text: string,
  limit: number,
  { truncate, tooLongStatus }: EngineRequest,
  tooLong: string,
): { readonly text: string; readonly tokens: number } {
  const ends = tokenEnds(text);
  if (ends.length <= limit) return { text, tokens: ends.length };
  if (!truncate) throw new Refusal(tooLongStatus, tooLong);
  if (limit <= 0) throw new Refusal(400, "input after truncation exceeds maximum context length");
  return { text: text.slice(0, ends[limit - 1]), tokens: limit };
}

/** Options that reload the model when they change. */
function runnerOptions(options: unknown): Readonly<Record<string, number>> {
  const given: Record<string, number> = {};
  if (!isObject(options)) return given;
  for (const name of ["num_ctx", "num_batch", "num_gpu", "num_thread"]) {
    const value = options[name];
    if (value === undefined) continue;
    if (typeof value !== "number") throw new Refusal(500, `option "${name}" must be of type integer`);
    given[name] = value;
  }
  return given;
}

function contextOf(model: InstalledModel, options: Readonly<Record<string, number>>): number {
  return Math.min(options.num_ctx ?? 8192, model.contextLength);
}

/** Returns how many tokens of a text fit, without special ones. */
function tokenLimit(call: Call, model: InstalledModel, options: Readonly<Record<string, number>>): number {
  const batch = call.world.era.batchLimit ? (options.num_batch ?? 2048) : Infinity;
  return Math.min(contextOf(model, options), batch) - specialTokens;
}

/** Ollama omits a duration of zero, and no real duration is zero. */
function nanoseconds(ms: number): number {
  return Math.max(1000, Math.round(ms * 1e6));
}
