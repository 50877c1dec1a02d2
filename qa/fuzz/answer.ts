import { fromBinary } from "@bufbuild/protobuf";
import { Code } from "@connectrpc/connect";
import { ErrorInfoSchema } from "../../src/generated/google/rpc/error_details_pb.ts";
import { StatusSchema } from "../../src/generated/google/rpc/status_pb.ts";

/** The server's answer to a case, in one form for every protocol. */
export interface Answer {
  /** `ok`, a status code (`invalid_argument`), `http 415`, or how the connection ended: `closed`, `reset`, `silent`. */
  readonly outcome: string;
  /** Reason of its google.rpc.ErrorInfo, if it has one. */
  readonly reason?: string | undefined;
  /** Everything that a caller can read, decoded as far as possible, to search it for leaks. */
  readonly text: string;
}

/** Headers, trailers and body as received. */
export interface RawAnswer {
  readonly status: number;
  readonly fields: ReadonlyMap<string, string>;
  readonly body: Buffer;
}

interface Parsed {
  readonly code: string;
  readonly message: string;
  readonly details: readonly { readonly type: string; readonly bytes: Uint8Array }[];
}

/** Reads the outcome from an answer of any protocol. */
export function readAnswer(raw: RawAnswer): Answer {
  const parsed = statusOf(raw);
  const head = [...raw.fields].map(([name, value]) => `${name}: ${value}`).join("\n");
  if (parsed === undefined) {
    return { outcome: `http ${raw.status}`, text: `${head}\n${raw.body.toString("latin1")}` };
  }
  const details = parsed.details.map(({ bytes }) => Buffer.from(bytes).toString("latin1")).join("\n");
  const text = [head, parsed.message, details, raw.body.toString("latin1")].join("\n");
  return { outcome: parsed.code, reason: reasonOf(parsed), text };
}

function statusOf({ status, fields, body }: RawAnswer): Parsed | undefined {
  const type = fields.get("content-type") ?? "";
  if (type.startsWith("application/grpc-web")) {
    const last = framesOf(body).at(-1);
    if (last === undefined || (last.flags & 0x80) === 0) return grpcStatus(fields);
    const lines = last.data.toString("latin1").split("\r\n");
    return grpcStatus(new Map(lines.map((line) => [nameIn(line), line.slice(line.indexOf(":") + 1).trim()])));
  }
  if (type.startsWith("application/grpc")) return grpcStatus(fields);
  if (type.startsWith("application/connect+")) {
    const last = framesOf(body).at(-1);
    if (last === undefined || (last.flags & 2) === 0) return undefined;
    const end = jsonOf(last.data);
    return end?.error === undefined ? ok : connectError(end.error);
  }
  if (type.startsWith("application/proto") && status === 200) return ok;
  if (!type.startsWith("application/json")) return undefined;
  if (status === 200) return ok;
  return connectError(jsonOf(body));
}

const ok: Parsed = { code: "ok", message: "", details: [] };

function grpcStatus(fields: ReadonlyMap<string, string>): Parsed | undefined {
  const number = fields.get("grpc-status");
  if (number === undefined) return undefined;
  if (number === "0") return ok;
  const bytes = Buffer.from(fields.get("grpc-status-details-bin") ?? "", "base64");
  const { details } = fromBinary(StatusSchema, bytes);
  return {
    code: nameOf(Number(number)),
    message: decodeURIComponent(fields.get("grpc-message") ?? ""),
    details: details.map(({ typeUrl, value }) => ({ type: typeUrl.split("/").at(-1) ?? "", bytes: value })),
  };
}

function connectError(error: unknown): Parsed | undefined {
  if (typeof error !== "object" || error === null || !("code" in error)) return undefined;
  const details = "details" in error && Array.isArray(error.details) ? error.details : [];
  return {
    code: String(error.code),
    message: "message" in error ? String(error.message) : "",
    details: details.map(({ type, value }) => ({
      type: String(type),
      bytes: Buffer.from(String(value), "base64"),
    })),
  };
}

function reasonOf({ details }: Parsed): string | undefined {
  const info = details.find(({ type }) => type === ErrorInfoSchema.typeName);
  return info && fromBinary(ErrorInfoSchema, info.bytes).reason;
}

function framesOf(body: Buffer) {
  const frames: { flags: number; data: Buffer }[] = [];
  for (let at = 0; at + 5 <= body.length; ) {
    const end = at + 5 + body.readUInt32BE(at + 1);
    frames.push({ flags: body.readUInt8(at), data: body.subarray(at + 5, end) });
    at = end;
  }
  return frames;
}

function jsonOf(bytes: Buffer): { readonly error?: unknown } | undefined {
  try {
    return JSON.parse(bytes.toString("utf8"));
  } catch {
    return undefined;
  }
}

function nameIn(line: string): string {
  return line.slice(0, line.indexOf(":")).toLowerCase();
}

/** Returns the name of a code, for example `invalid_argument` for 3. */
function nameOf(code: number): string {
  const name = Code[code] ?? `code ${code}`;
  return name.replace(/(?<=[a-z])[A-Z]/g, (capital) => `_${capital}`).toLowerCase();
}
