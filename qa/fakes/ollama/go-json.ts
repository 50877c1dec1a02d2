import { Refusal } from "./reply.ts";

/** Types of request fields, as Go names them in its errors. */
export type GoType = "string" | "bool" | "int" | "float32" | "map[string]interface {}";

/**
 * Decodes a request as Ollama does, with the errors of Go's decoder; ignores unknown fields.
 *
 * @throws Refusal 400
 */
export function decodeRequest(
  body: string,
  struct: string,
  fields: Readonly<Record<string, GoType>>,
): Readonly<Record<string, unknown>> {
  if (body.trim() === "") throw new Refusal(400, "missing request body");
  const value = parseGo(body);
  if (value === null) return {};
  if (!isObject(value)) {
    throw new Refusal(400, `json: cannot unmarshal ${goKind(value)} into Go value of type api.${struct}`);
  }
  for (const [name, type] of Object.entries(fields)) {
    const field = value[name];
    if (field === undefined || field === null || isOfType(field, type)) continue;
    throw new Refusal(
      400,
      `json: cannot unmarshal ${goKind(field)} into Go struct field ${struct}.${name} of type ${type}`,
    );
  }
  return value;
}

/** Whether a decoded value is a JSON object. */
export function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/**
 * Parses `keep_alive` into milliseconds: a number of seconds or a Go duration; negative means forever.
 *
 * @throws Refusal 400 if it is neither
 */
export function keepAliveMsFrom(value: unknown): number | undefined {
  if (value === undefined || value === null) return undefined;
  if (typeof value === "number") return value * 1000;
  if (typeof value !== "string") throw new Refusal(400, `Unsupported type: '${goKind(value)}'`);
  const units: Record<string, number> = { ns: 1e-6, us: 1e-3, µs: 1e-3, ms: 1, s: 1e3, m: 60e3, h: 3600e3 };
  const digits = value.replace(/^[-+]/, "");
  if (digits === "0") return 0;
  if (!/^(\d+\.?\d*|\.\d+)/.test(digits))
    throw new Refusal(400, `time: invalid duration ${JSON.stringify(value)}`);
  let ms = 0;
  for (const [, amount, unit = ""] of digits.matchAll(/(\d+\.?\d*|\.\d+)([^\d.]*)/g)) {
    const factor = units[unit];
    if (factor === undefined) {
      const what = unit === "" ? "missing unit" : `unknown unit ${JSON.stringify(unit)}`;
      throw new Refusal(400, `time: ${what} in duration ${JSON.stringify(value)}`);
    }
    ms += Number(amount) * factor;
  }
  return value.startsWith("-") ? -ms : ms;
}

function parseGo(body: string): unknown {
  try {
    return JSON.parse(body);
  } catch (cause) {
    const message = cause instanceof Error ? cause.message : "";
    if (/Unexpected end|Unterminated/.test(message)) throw new Refusal(400, "unexpected EOF");
    const position = Number(/at position (\d+)/.exec(message)?.[1] ?? body.search(/\S/));
    if (position >= body.trimEnd().length) throw new Refusal(400, "unexpected EOF");
    throw new Refusal(400, `invalid character '${body[position]}' looking for beginning of value`);
  }
}

function isOfType(value: unknown, type: GoType): boolean {
  switch (type) {
    case "string":
      return typeof value === "string";
    case "bool":
      return typeof value === "boolean";
    case "int":
      return Number.isInteger(value);
    case "float32":
      return typeof value === "number";
    case "map[string]interface {}":
      return isObject(value);
  }
}

function goKind(value: unknown): string {
  if (typeof value === "number") return Number.isInteger(value) ? "number" : `number ${value}`;
  if (typeof value === "boolean") return "bool";
  if (Array.isArray(value)) return "array";
  return typeof value;
}
