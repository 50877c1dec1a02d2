import type { JsonValue } from "../../memory/model/memory.ts";

/** Why a value of Python's JSON was changed: neither JSON nor PostgreSQL can store it. */
export type JsonChange =
  /** NaN, Infinity and -Infinity become strings. */
  | "not-a-number"
  /** An integer that a double cannot hold becomes a string of its digits. */
  | "big-integer"
  /** NUL becomes U+FFFD. */
  | "nul"
  /** An unpaired surrogate becomes U+FFFD. */
  | "half-surrogate"
  /** Of several values under one key, the last is kept, as in Python. */
  | "duplicate-key"
  /** A value that is nested too deeply becomes its JSON text. */
  | "too-deep";

export interface PythonJson {
  /** The value that can be stored. Objects may have an own key `__proto__`. */
  readonly value: JsonValue;
  readonly changes: ReadonlySet<JsonChange>;
  /** The JSON as `json.dumps` writes it: in ASCII, with `", "` and `": "`. Numbers keep their notation. */
  readonly text: string;
  /** If the value is an object, the texts of its members by key. */
  readonly members: ReadonlyMap<string, string>;
}

/** Maximum nesting of the source. Python writes less, and the stack of a thread overflows before 2,000 levels. */
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
 * Parses JSON as Python's `json` module reads and writes it: with NaN, infinities, integers of any size, unpaired
 * surrogates and repeated keys.
 *
 * @param maxDepth maximum nesting of `value`; a flat object has depth 1.
 * @throws SyntaxError
 */
export function parsePythonJson(source: string, maxDepth: number): PythonJson {
  return new Parser(source, maxDepth).parse();
}

class Parser {
  readonly #source: string;
  readonly #maxDepth: number;
  readonly #changes = new Set<JsonChange>();
  readonly #members = new Map<string, string>();
  #at = 0;

  constructor(source: string, maxDepth: number) {
    this.#source = source;
    this.#maxDepth = maxDepth;
  }

  parse(): PythonJson {
    const root = this.#readValue(1);
    this.#skipSpace();
    if (this.#at < this.#source.length) throw this.#unexpected();
    return { ...root, changes: this.#changes, members: this.#members };
  }

  #readValue(level: number): Node {
    this.#skipSpace();
    const first = this.#source[this.#at];
    if (first === "{" || first === "[") return this.#readContainer(first, level);
    if (first === '"') {
      const string = this.#readString();
      return { value: this.#storable(string), text: pythonString(string) };
    }
    const word = this.#take(WORD)?.[0];
    if (word === "true" || word === "false") return { value: word === "true", text: word };
    if (word === "null") return { value: null, text: word };
    if (word !== undefined) {
      this.#changes.add("not-a-number");
      return { value: word, text: word };
    }
    return this.#readNumber();
  }

  #readContainer(first: "{" | "[", level: number): Node {
    if (level > MAX_LEVELS) throw new SyntaxError(`more than ${MAX_LEVELS} levels`);
    const start = this.#at;
    const changesBefore = level > this.#maxDepth ? new Set(this.#changes) : undefined;
    const node = first === "{" ? this.#readObject(level) : this.#readList(level);
    if (changesBefore === undefined) return node;
    // The value is kept as text, so that changes within it do not count.
    this.#changes.clear();
    for (const change of changesBefore) this.#changes.add(change);
    this.#changes.add("too-deep");
    return { value: this.#wellFormed(this.#source.slice(start, this.#at)), text: node.text };
  }

  #readNumber(): Node {
    const number = this.#take(NUMBER);
    if (number === undefined) throw this.#unexpected();
    const [text, fraction, exponent] = number;
    const whole = fraction === undefined && exponent === undefined;
    // Adding 0 turns -0 into 0; PostgreSQL has no -0.
    const value = Number(text) + 0;
    const fits =
      Number.isFinite(value) && (!whole || Number.isSafeInteger(value) || BigInt(text) === BigInt(value));
    if (!fits) {
      this.#changes.add("big-integer");
      return { value: text, text };
    }
    return { value, text };
  }

  #readObject(level: number): Node {
    const entries = new Map<string, Node>();
    const members: string[] = [];
    this.#at++;
    this.#skipSpace();
    if (this.#source[this.#at] === "}") {
      this.#at++;
      return { value: {}, text: "{}" };
    }
    do {
      this.#skipSpace();
      if (this.#source[this.#at] !== '"') throw this.#unexpected();
      const key = this.#readString();
      this.#skipSpace();
      if (this.#source[this.#at++] !== ":") throw this.#unexpected(this.#at - 1);
      const node = this.#readValue(level + 1);
      members.push(`${pythonString(key)}: ${node.text}`);
      if (level === 1) this.#members.set(key, node.text);
      const name = this.#storable(key);
      if (entries.has(name)) this.#changes.add("duplicate-key");
      entries.set(name, node);
    } while (!this.#endsWith("}"));
    const value: Record<string, JsonValue> = {};
    for (const [key, node] of entries) {
      // An assignment to __proto__ would not create a key.
      Object.defineProperty(value, key, {
        value: node.value,
        enumerable: true,
        writable: true,
        configurable: true,
      });
    }
    return { value, text: `{${members.join(", ")}}` };
  }

  #readList(level: number): Node {
    const nodes: Node[] = [];
    this.#at++;
    this.#skipSpace();
    if (this.#source[this.#at] === "]") {
      this.#at++;
      return { value: [], text: "[]" };
    }
    do nodes.push(this.#readValue(level + 1));
    while (!this.#endsWith("]"));
    return {
      value: nodes.map(({ value }) => value),
      text: `[${nodes.map(({ text }) => text).join(", ")}]`,
    };
  }

  /** Reads the separator after an element. Returns true for the closing bracket, false for a comma. */
  #endsWith(closing: string): boolean {
    this.#skipSpace();
    const next = this.#source[this.#at++];
    if (next === closing) return true;
    if (next === ",") return false;
    throw this.#unexpected(this.#at - 1);
  }

  #readString(): string {
    this.#at++;
    let text = "";
    for (;;) {
      text += this.#take(PLAIN)?.[0] ?? "";
      const next = this.#source[this.#at++];
      if (next === '"') return text;
      if (next !== "\\") throw this.#unexpected(this.#at - 1);
      const escaped = this.#source[this.#at++] ?? "";
      if (escaped === "u") {
        const hex = this.#take(HEX)?.[0];
        if (hex === undefined) throw this.#unexpected();
        text += String.fromCharCode(Number.parseInt(hex, 16));
      } else {
        const plain = ESCAPES[escaped];
        if (plain === undefined) throw this.#unexpected(this.#at - 1);
        text += plain;
      }
    }
  }

  #storable(text: string): string {
    if (text.includes("\0")) this.#changes.add("nul");
    return this.#wellFormed(text.replaceAll("\0", "\ufffd"));
  }

  #wellFormed(text: string): string {
    if (text.isWellFormed()) return text;
    this.#changes.add("half-surrogate");
    return text.toWellFormed();
  }

  #skipSpace(): void {
    this.#take(SPACE);
  }

  /** Matches a sticky pattern at the current position and advances past the match. */
  #take(pattern: RegExp): RegExpExecArray | undefined {
    pattern.lastIndex = this.#at;
    const found = pattern.exec(this.#source);
    if (found === null) return undefined;
    this.#at = pattern.lastIndex;
    return found;
  }

  #unexpected(position = this.#at): SyntaxError {
    return new SyntaxError(
      position >= this.#source.length
        ? "the JSON ends prematurely"
        : `unexpected ${JSON.stringify(this.#source[position])} at position ${position} of the JSON`,
    );
  }
}

/** Formats a value as `json.dumps` does, with every number as a float. */
export function pythonJson(value: JsonValue): string {
  if (value === null || typeof value === "boolean") return String(value);
  if (typeof value === "number") return pythonFloat(value);
  if (typeof value === "string") return pythonString(value);
  if (Array.isArray(value)) return `[${value.map(pythonJson).join(", ")}]`;
  const members = Object.entries(value).map(([key, inner]) => `${pythonString(key)}: ${pythonJson(inner)}`);
  return `{${members.join(", ")}}`;
}

/** Formats a string as `json.dumps` does, in ASCII. */
function pythonString(text: string): string {
  return JSON.stringify(text).replace(
    /[\u007f-\uffff]/g,
    (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}

/** Formats a float as Python's `repr` does, such as 1.0, 1e+16 or 1e-05. */
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
