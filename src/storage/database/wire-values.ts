import type { Parameter } from "./database.ts";

/**
 * Value that both engines send to and receive from PostgreSQL. Strings have PostgreSQL's text form, bytes its binary
 * form. Both engines share this conversion, so a statement behaves the same on each.
 */
export type WireValue = string | Uint8Array | null;

/** Converts a parameter. The server infers its type from the statement. */
export function wireValueFrom(parameter: Parameter): WireValue {
  if (parameter === null || typeof parameter === "string") return parameter;
  if (parameter instanceof Float32Array) return vectorBytes(parameter);
  if (parameter instanceof Uint8Array) return parameter;
  if (typeof parameter === "object") return arrayLiteral(parameter);
  return String(parameter);
}

/**
 * Writes the binary form of a vector: int16 dimensions, int16 zero, then a big-endian float32 for each dimension.
 *
 * The package pgvector writes only the text form. For 768 dimensions, that takes 180 µs instead of 11 µs, has 15.5 KB
 * instead of 3.1 KB, and makes an insert take 0.32 ms instead of 0.25 ms.
 */
export function vectorBytes(embedding: Float32Array): Uint8Array {
  const bytes = new Uint8Array(4 + embedding.length * 4);
  const view = new DataView(bytes.buffer);
  view.setInt16(0, embedding.length);
  for (let i = 0; i < embedding.length; i++) view.setFloat32(4 + i * 4, embedding[i] ?? 0);
  return bytes;
}

/** Reads the binary form of a vector. */
export function vectorFromBytes(bytes: Uint8Array): Float32Array {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return Float32Array.from({ length: view.getInt16(0) }, (_, i) => view.getFloat32(4 + i * 4));
}

function arrayLiteral(values: readonly string[] | readonly number[]): string {
  const elements = values.map((value) =>
    typeof value === "number" ? String(value) : `"${value.replace(/["\\]/g, "\\$&")}"`,
  );
  return `{${elements.join(",")}}`;
}

/** Reads a value from its text form. */
export type TextParser = (text: string) => unknown;

const asText: TextParser = (text) => text;
const asNumber: TextParser = (text) => Number(text);
const asBigint: TextParser = (text) => BigInt(text);
const asBoolean: TextParser = (text) => text === "t";
const asJson: TextParser = (text) => JSON.parse(text);
// Copies the bytes, because a Buffer may share its memory.
const asBytes: TextParser = (text) => new Uint8Array(Buffer.from(text.slice(2), "hex"));

/** [type, array of the type, parser] by the fixed oids of pg_type. */
const types: ReadonlyArray<readonly [oid: number, arrayOid: number, parser: TextParser]> = [
  [16, 1000, asBoolean], // bool
  [17, 1001, asBytes], // bytea
  [19, 1003, asText], // name
  [20, 1016, asBigint], // int8
  [21, 1005, asNumber], // int2
  [23, 1007, asNumber], // int4
  [25, 1009, asText], // text
  [26, 1028, asNumber], // oid
  [114, 199, asJson], // json
  [700, 1021, asNumber], // float4
  [701, 1022, asNumber], // float8
  [1042, 1014, asText], // bpchar
  [1043, 1015, asText], // varchar
  [1082, 1182, asText], // date
  [1114, 1115, asText], // timestamp
  [1184, 1185, asText], // timestamptz
  [1700, 1231, asNumber], // numeric
  [2950, 2951, asText], // uuid
  [3802, 3807, asJson], // jsonb
];

/** Parsers of the known types by oid. */
const textParsers: Readonly<Record<number, TextParser>> = Object.fromEntries(
  types.flatMap(([oid, arrayOid, parser]) => [
    [oid, parser],
    [arrayOid, (text: string) => parseArray(text, parser)],
  ]),
);

/** Returns the parser of the type. Values of an unknown type remain text. */
export function textParserOf(oid: number): TextParser {
  return textParsers[oid] ?? asText;
}

/** Reads an array literal of PostgreSQL, for example `{1,NULL,"a \"b\"",{...}}`. */
export function parseArray(text: string, parser: TextParser): unknown[] {
  // Skips the bounds of an array whose lower bound is not 1, as in `[0:1]={1,2}`.
  let at = text.indexOf("{");
  const parseLevel = (): unknown[] => {
    const values: unknown[] = [];
    at++;
    while (text[at] !== "}") {
      if (at >= text.length) throw new Error("unterminated array literal");
      if (text[at] === "{") values.push(parseLevel());
      else if (text[at] === '"') values.push(parser(readQuoted()));
      else values.push(readBare());
      if (text[at] === ",") at++;
    }
    at++;
    return values;
  };
  const readQuoted = (): string => {
    let value = "";
    at++;
    while (text[at] !== '"') {
      if (at >= text.length) throw new Error("unterminated array literal");
      if (text[at] === "\\") at++;
      value += text[at];
      at++;
    }
    at++;
    return value;
  };
  const readBare = (): unknown => {
    const start = at;
    while (at < text.length && text[at] !== "," && text[at] !== "}") at++;
    const value = text.slice(start, at);
    return value === "NULL" ? null : parser(value);
  };
  return parseLevel();
}
