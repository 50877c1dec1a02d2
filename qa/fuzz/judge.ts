import type { Answer } from "./answer.ts";
import type { Attempt } from "./kind.ts";

/** The verdict on an answer. */
export type Verdict =
  | { readonly kind: "fine" }
  /** Connect could not decode the request and returned Internal or Unknown, which is not a defect of the service. */
  | { readonly kind: "undecodable"; readonly message: string }
  | { readonly kind: "finding"; readonly why: string };

/** Patterns that no answer may contain. No case sends any of them. */
const leaks: readonly (readonly [name: string, pattern: RegExp])[] = [
  [
    "SQL",
    /\b(select|insert into|update|delete)\b[^\n]{0,200}\b(from|values|set|where)\b[^\n]{0,80}(\$\d|=|\()/i,
  ],
  ["a name of the driver", /\b(pglite|node-postgres|pg-protocol|PostgresError|DatabaseError)\b/i],
  [
    "a message of PostgreSQL",
    /syntax error at or near|violates .{0,30}constraint|invalid input syntax|duplicate key value|invalid byte sequence|out of range for type|relation ".{0,80}" does not exist|SQLSTATE/i,
  ],
  [
    "a message of JavaScript",
    /Cannot read propert|is not a function|is not iterable|undefined \(reading|Maximum call stack|Cannot convert|Invalid array length|is not defined/,
  ],
  ["a stack", /\n {1,8}at [^\n]{1,200}:\d+:\d+/],
  ["a path", /node_modules|\/src\/|file:\/\/\/|\/tmp\/|\/home\//],
  ["a network error", /\b(ECONN[A-Z]+|EPIPE|ENOENT|EACCES|ETIMEDOUT|ERR_[A-Z0-9_]{4,})\b/],
];

const inexplicable = new Set(["internal", "unknown", "data_loss"]);

/** Reasons that would mean that the database or the whole server has failed. */
const failing = new Set([
  "INTERNAL",
  "SCHEMA_MISMATCH",
  "STORAGE_FULL",
  "DATABASE_UNAVAILABLE",
  "OUTCOME_UNKNOWN",
  "SHUTTING_DOWN",
]);

/** Judges the answer to one case. */
export function judge(attempt: Attempt, answer: Answer): Verdict {
  const { outcome, reason, text } = answer;
  const leak = leaks.find(([, pattern]) => pattern.test(text));
  if (leak !== undefined) return finding(`${leak[0]} in the answer: ${leak[1].exec(text)?.[0]}`);
  if (reason !== undefined && failing.has(reason)) return finding(`${outcome}, reason ${reason}`);
  if (/^http 5(?!03|05)/.test(outcome)) return finding(outcome);
  if (outcome === "no answer in time" || outcome === "refused") return finding(outcome);
  if (attempt.expects !== "any" && /^(cut|reset|closed|silent)/.test(outcome))
    return finding(`no answer: ${outcome}`);
  const message = messageIn(text);
  if (reason === undefined && message.includes("maximum recursion depth")) {
    return { kind: "undecodable", message: `${outcome}: ${message}` };
  }
  if (inexplicable.has(outcome)) {
    if (attempt.expects === "contract" || attempt.expects === "decodable")
      return finding(`${outcome}: ${message}`);
    return { kind: "undecodable", message: `${outcome}: ${message}` };
  }
  if (attempt.expects === "contract" && outcome !== "ok" && outcome !== "left" && reason === undefined) {
    return finding(`${outcome} without a reason: ${message}`);
  }
  return { kind: "fine" };
}

function finding(why: string): Verdict {
  return { kind: "finding", why };
}

/** Returns the message of an error without the parts that differ between cases. */
function messageIn(text: string): string {
  const grpc = /grpc-message: ?(.*)/.exec(text)?.[1];
  const connect = /"message":"((?:[^"\\]|\\.)*)"/.exec(text)?.[1];
  return decode(grpc ?? connect ?? text.slice(0, 200))
    .replace(/\d+/g, "N")
    .slice(0, 160);
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
