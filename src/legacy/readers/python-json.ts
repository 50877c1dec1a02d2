import type { JsonValue } from "../../memory/model/memory.ts";

/** What a value of Python's JSON became something else for, since neither JSON nor PostgreSQL holds it. */
export type JsonChange =
  /** NaN, Infinity and -Infinity are kept as strings of those names. */
  | "not-a-number"
  /** Whole numbers that a double does not hold are kept as strings of their digits. */
  | "big-integer"
  /** NUL is kept as U+FFFD. */
  | "nul"
  /** Half of a surrogate pair is kept as U+FFFD. */
  | "half-surrogate"
  /** Of several values under one key the last is kept, as Python does. */
  | "duplicate-key"
  /** What lies deeper is kept as its JSON text. */
  | "too-deep";

export interface PythonJson {
  /** As it can be stored. Objects may have a key `__proto__` of their own. */
  readonly value: JsonValue;
  readonly changes: ReadonlySet<JsonChange>;
  /** The same JSON as Python's `json.dumps` writes it: ASCII, `", "` and `": "`; numbers as they were written. */
  readonly text: string;
  /** Of an object: the texts of its members. */
  readonly members: ReadonlyMap<string, string>;
}

/** Deeper texts are not read: Python writes none that are so deep, and the stack of a thread holds no 2,000. */
const MAX_LEVELS = 1_000;

const SPACE = /[ \t\n\r]*/y;
const NUMBER = /-?(?:0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?/y;
const WORD = /NaN|-?Infinity|true|false|null/y;
const PLAIN = /[^"\\]+/y;
const HEX = /[0-9a-fA-F]{4}/y;

const ESCAPES: Readonly<Record<string, string>> = {
  '"': '"',
  "\\": "\\",
  "/": "/",
  b: "\b",
  f: "\f",
  n: "\n",
  r: "\r",
  t: "\t",
};

interface Node {
  readonly value: JsonValue;
  readonly text: string;
}

/**
 * Reads JSON as Python's `json` writes and reads it: with NaN, infinities, whole numbers of any length, half surrogate
 * pairs, and keys that repeat.
 *
 * @param maxDepth levels of objects and lists that `value` may have; a flat object has one.
 * @throws SyntaxError
 */
export function parsePythonJson(source: string, maxDepth: number): PythonJson {
  const changes = new Set<JsonChange>();
  const outermost = new Map<string, string>();
  let at = 0;
  const root = readValue(1);
  skipSpace();
  if (at < source.length) throw unexpected();
  return { ...root, changes, members: outermost };

  function readValue(level: number): Node {
    skipSpace();
    const first = source[at];
    if (first === "{" || first === "[") {
      if (level > MAX_LEVELS) throw new SyntaxError(`more than ${MAX_LEVELS} levels`);
      const start = at;
      const kept = level > maxDepth ? new Set(changes) : undefined;
      const node = first === "{" ? readObject(level) : readList(level);
      if (kept === undefined) return node;
      // Only as text: what happened within is not a change of its own.
      changes.clear();
      for (const change of kept) changes.add(change);
      changes.add("too-deep");
      return { value: wellFormed(source.slice(start, at)), text: node.text };
    }
    if (first === '"') {
      const string = readString();
      return { value: storable(string), text: pythonString(string) };
    }
    const word = take(WORD)?.[0];
    if (word === "true" || word === "false") return { value: word === "true", text: word };
    if (word === "null") return { value: null, text: word };
    if (word !== undefined) {
      changes.add("not-a-number");
      return { value: word, text: word };
    }
    const number = take(NUMBER);
    if (number === undefined) throw unexpected();
    const [text, fraction, exponent] = number;
    const whole = fraction === undefined && exponent === undefined;
    // PostgreSQL knows no -0.
    const value = Number(text) + 0;
    const fits =
      Number.isFinite(value) && (!whole || Number.isSafeInteger(value) || BigInt(text) === BigInt(value));
    if (!fits) {
      changes.add("big-integer");
      return { value: text, text };
    }
    return { value, text };
  }

  function readObject(level: number): Node {
    const entries = new Map<string, Node>();
    const members: string[] = [];
    at++;
    skipSpace();
    if (source[at] === "}") {
      at++;
      return { value: {}, text: "{}" };
    }
    for (;;) {
      skipSpace();
      if (source[at] !== '"') throw unexpected();
      const key = readString();
      skipSpace();
      if (source[at++] !== ":") throw unexpected(at - 1);
      const node = readValue(level + 1);
      members.push(`${pythonString(key)}: ${node.text}`);
      if (level === 1) outermost.set(key, node.text);
      const name = storable(key);
      if (entries.has(name)) changes.add("duplicate-key");
      entries.set(name, node);
      if (endsWith("}")) break;
    }
    const value: Record<string, JsonValue> = {};
    for (const [key, node] of entries) {
      // An assignment to __proto__ would not make a key.
      Object.defineProperty(value, key, {
        value: node.value,
        enumerable: true,
        writable: true,
        configurable: true,
      });
    }
    return { value, text: `{${members.join(", ")}}` };
  }

  function readList(level: number): Node {
    const nodes: Node[] = [];
    at++;
    skipSpace();
    if (source[at] === "]") {
      at++;
      return { value: [], text: "[]" };
    }
    do nodes.push(readValue(level + 1));
    while (!endsWith("]"));
    return {
      value: nodes.map(({ value }) => value),
      text: `[${nodes.map(({ text }) => text).join(", ")}]`,
    };
  }

  /** After an element: false if another one follows. */
  function endsWith(closing: string): boolean {
    skipSpace();
    const next = source[at++];
    if (next === closing) return true;
    if (next === ",") return false;
    throw unexpected(at - 1);
  }

  function readString(): string {
    at++;
    let text = "";
    for (;;) {
      text += take(PLAIN)?.[0] ?? "";
      const next = source[at++];
      if (next === '"') return text;
      if (next !== "\\") throw unexpected(at - 1);
      const escaped = source[at++] ?? "";
      if (escaped === "u") {
        const hex = take(HEX)?.[0];
        if (hex === undefined) throw unexpected();
        text += String.fromCharCode(Number.parseInt(hex, 16));
      } else {
        const plain = ESCAPES[escaped];
        if (plain === undefined) throw unexpected(at - 1);
        text += plain;
      }
    }
  }

  function storable(text: string): string {
    if (text.includes("\0")) changes.add("nul");
    return wellFormed(text.replaceAll("\0", "\ufffd"));
  }

  function wellFormed(text: string): string {
    if (text.isWellFormed()) return text;
    changes.add("half-surrogate");
    return text.toWellFormed();
  }

  function skipSpace(): void {
    take(SPACE);
  }

  function take(pattern: RegExp): RegExpExecArray | undefined {
    pattern.lastIndex = at;
    const found = pattern.exec(source);
    if (found === null) return undefined;
    at = pattern.lastIndex;
    return found;
  }

  function unexpected(position = at): SyntaxError {
    return new SyntaxError(
      position >= source.length
        ? "the JSON ends too early"
        : `unexpected ${JSON.stringify(source[position])} at position ${position} of the JSON`,
    );
  }
}

/** A value as `json.dumps` writes it, every number as a float. */
export function pythonJson(value: JsonValue): string {
  if (value === null || typeof value === "boolean") return String(value);
  if (typeof value === "number") return pythonFloat(value);
  if (typeof value === "string") return pythonString(value);
  if (Array.isArray(value)) return `[${value.map(pythonJson).join(", ")}]`;
  const members = Object.entries(value).map(([key, inner]) => `${pythonString(key)}: ${pythonJson(inner)}`);
  return `{${members.join(", ")}}`;
}

/** A string as `json.dumps` writes it: ASCII only. */
function pythonString(text: string): string {
  return JSON.stringify(text).replace(
    /[\u007f-\uffff]/g,
    (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}

/** A float as Python's `repr` writes it: 1.0, 1e+16, 1e-05. */
export function pythonFloat(value: number): string {
  if (!Number.isFinite(value)) return String(value);
  if (Object.is(value, -0)) return "-0.0";
  const [digits = "", exponentText = "0"] = value.toExponential().split("e");
  const exponent = Number(exponentText);
  if (exponent < -4 || exponent >= 16) {
    return `${digits}e${exponent < 0 ? "-" : "+"}${String(Math.abs(exponent)).padStart(2, "0")}`;
  }
  const plain = String(value);
  return plain.includes(".") ? plain : `${plain}.0`;
}
