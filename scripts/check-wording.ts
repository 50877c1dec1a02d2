/**
 * Finds words that the texts of this project avoid, because readers stumble over them. Prints each occurrence with a
 * replacement, and exits 1 if there is any. Part of `npm run lint`.
 */
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";

/** Each pattern with what to write instead. */
const AVOIDED: readonly (readonly [RegExp, string])[] = [
  [/\banew\b/i, "again, or a verb such as rebuild, recreate, re-embed"],
  [/\bwho(m)?ever\b/i, "anyone who, a caller that"],
  [/\b(nobody|somebody)\b/i, "no caller, another server, an operator"],
  [/\b(tells?|told) (of|whether|how|why|what|when|apart|which)\b/i, "report, show, return"],
  [/\b(goes|went|going) on\b/i, "continue, resume"],
  [/\bby (its |their )?(words|meaning)\b(?!\.)/i, "full-text search, semantic search"],
  [/\bby words and by meaning\b/i, "hybrid search"],
  [/\bat last\b/i, "finally"],
  [/\bmeanwhile\b/i, "in the meantime, concurrently"],
  [/\b(is|are|was|were) away\b/i, "unavailable, unreachable, not running"],
  [/\bcompared one by one\b/i, "exact search"],
  [/\b(is|was|are|were) not there\b/i, "does not exist, is not available"],
  [/\bmakes? (no|nothing) (of|but)\b/i, "an explicit verb"],
];

/** This list, generated code, tests (whose sample texts may use any words), and files of others. */
const SKIPPED =
  /^(scripts\/check-wording\.ts|src\/generated\/|gen\/src\/|test\/|LICENSE$|package-lock\.json$)/;
const TEXTS = /\.(ts|md|proto|sql|sh|yaml|yml|js|json)$|^(Dockerfile|\.ci\/run|\.env\.example)$/;
/** Marks a line whose words are quoted on purpose. */
const EXEMPT = "wording: quoted";

const files = execFileSync("git", ["ls-files"], { encoding: "utf8" }).trim().split("\n");
let found = 0;
for (const file of files.filter((path) => TEXTS.test(path) && !SKIPPED.test(path))) {
  for (const [index, line] of readFileSync(file, "utf8").split("\n").entries()) {
    if (line.includes(EXEMPT)) continue;
    for (const [pattern, replacement] of AVOIDED) {
      const match = pattern.exec(line);
      if (match === null) continue;
      found++;
      console.error(`${file}:${index + 1}: "${match[0]}": write ${replacement}`);
    }
  }
}
if (found > 0) {
  console.error(`${found} wordings to replace`);
  process.exitCode = 1;
}
