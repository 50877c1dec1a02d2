import { createHash } from "node:crypto";
import { decodeRequest } from "./go-json.ts";
import { isModelName } from "./models.ts";
import { jsonReply, Refusal, type Reply } from "./reply.ts";
import type { Call } from "./world.ts";

const missingManifest = "pull model manifest: file does not exist";

/** `POST /api/pull`: installs a model in `pullMs`. Names under `missing/` do not exist. */
export async function handlePull(call: Call): Promise<Reply> {
  const request = decodeRequest(call.body, "PullRequest", {
    model: "string",
    name: "string",
    stream: "bool",
  });
  const name = String(request.model || request.name || "");
  if (!isModelName(name)) throw new Refusal(400, "invalid model name");
  const progress = pull(call, name);
  if (request.stream !== false) {
    return { status: 200, type: "application/x-ndjson", body: "", lines: toLines(progress) };
  }
  let last: PullLine | undefined;
  for await (const line of progress) last = line;
  return last && "error" in last ? jsonReply(last, 500) : jsonReply(last);
}

type PullLine =
  | { readonly error: string }
  | {
      readonly status: string;
      readonly digest?: string;
      readonly total?: number;
      readonly completed?: number;
    };

async function* pull({ world, signal }: Call, name: string): AsyncGenerator<PullLine> {
  const { clock, models, pullMs } = world;
  yield { status: "pulling manifest" };
  if (name.startsWith("missing/")) {
    yield { error: missingManifest };
    return;
  }
  const model = models.describe(name);
  const layer = layerDigest(model.name);
  const total = model.size ?? 45960996;
  const step = { status: `pulling ${layer.slice(0, 12)}`, digest: `sha256:${layer}`, total };
  yield step;
  for (const third of [1, 2, 3]) {
    await clock.sleep(pullMs / 3, signal);
    yield { ...step, completed: Math.floor((total * third) / 3) };
  }
  yield { status: "verifying sha256 digest" };
  yield { status: "writing manifest" };
  signal.throwIfAborted();
  models.add(model, clock.now());
  yield { status: "success" };
}

async function* toLines(progress: AsyncIterable<PullLine>): AsyncGenerator<string> {
  for await (const line of progress) yield `${JSON.stringify(line)}\n`;
}

function layerDigest(name: string): string {
  const hashed = createHash("sha256").update(`layer ${name}`).digest("hex");
  return name.startsWith("nomic-embed-text:") ? `970aa74c0a90${hashed.slice(12)}` : hashed;
}
