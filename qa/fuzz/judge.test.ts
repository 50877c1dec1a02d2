import { expect, it } from "vitest";
import { judge } from "./judge.ts";
import type { Attempt } from "./kind.ts";

const attempt = (expects: Attempt["expects"]): Attempt => ({
  title: "a case",
  expects,
  send: () => Promise.reject(new Error("is not sent")),
});

it.each([
  ["SQL", 'select id from "default_memories" where id = $1'],
  ["a name of the driver", "DatabaseError: gone"],
  ["a message of PostgreSQL", 'syntax error at or near "x"'],
  ["a message of PostgreSQL", 'new row violates check constraint "y"'],
  ["a message of JavaScript", "Cannot read properties of undefined"],
  ["a stack", "Error: x\n    at run (main.js:1:2)"],
  ["a path", "in /app/node_modules/pg/lib"],
  ["a network error", "connect ECONNREFUSED 127.0.0.1:5432"],
])("finds %s in an answer: %s", (name, text) => {
  const verdict = judge(attempt("any"), { outcome: "invalid_argument", reason: "INVALID_ARGUMENT", text });
  expect(verdict).toMatchObject({ kind: "finding", why: expect.stringContaining(name) });
});

it.each([
  ["contract", { outcome: "internal", text: "" }],
  ["decodable", { outcome: "unknown", text: "" }],
  ["contract", { outcome: "not_found", text: "" }],
  ["answered", { outcome: "internal", reason: "INTERNAL", text: "" }],
  ["any", { outcome: "unavailable", reason: "DATABASE_UNAVAILABLE", text: "" }],
  ["answered", { outcome: "cut: ECONNRESET", text: "" }],
  ["any", { outcome: "no answer in time", text: "" }],
  ["any", { outcome: "http 500", text: "" }],
] as const)("of what should be %s, does not accept %j", (expects, answer) => {
  expect(judge(attempt(expects), answer).kind).toBe("finding");
});

it.each([
  ["contract", { outcome: "ok", text: "" }, "fine"],
  ["contract", { outcome: "not_found", reason: "MEMORY_NOT_FOUND", text: "" }, "fine"],
  ["answered", { outcome: "internal", text: "grpc-message: parse binary: premature EOF" }, "undecodable"],
  ["any", { outcome: "closed", text: "" }, "fine"],
] as const)("of what should be %s, takes %j as %s", (expects, answer, kind) => {
  expect(judge(attempt(expects), answer).kind).toBe(kind);
});
