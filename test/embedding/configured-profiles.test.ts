import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it, test } from "vitest";
import { readConfig } from "../../src/app/config.ts";
import { readConfiguredProfiles } from "../../src/embedding/configured-profiles.ts";
import { prepareText } from "../../src/embedding/model-profile.ts";
import { partsOfProfile, profileForModel, profileNames } from "../../src/embedding/model-profiles.ts";

const read = (profiles: unknown) => readConfiguredProfiles(JSON.stringify(profiles));
const problemsOf = (profiles: unknown) => read(profiles).problems;

const KNOWN =
  "nomic, nomic-v2, mxbai, bge-large, minilm-l12, minilm, bge-m3, embeddinggemma, qwen3-0.6b, qwen3-4b, qwen3-8b, arctic2, arctic-long, arctic, granite, generic";
const ENTRIES =
  "profile, query_prefix, document_prefix, dimensions, shorter_dimensions, context_tokens, clean_up";

describe("a configured profile", () => {
  it("describes an unknown model", () => {
    const { find, problems } = read({
      "acme/notes-embed": {
        query_prefix: "ask: ",
        document_prefix: "note: ",
        dimensions: 512,
        context_tokens: 1024,
        clean_up: "uncased",
      },
    });
    expect(problems).toEqual([]);
    const profile = find("notes-embed:q8_0");
    expect(profile).toMatchObject({
      name: expect.stringMatching(/^generic\/1\+[0-9a-f]{8}$/),
      dimensions: 512,
      contextTokens: 1024,
      maxChunkLength: 1984,
      options: { num_ctx: 1024, num_batch: 1024 },
    });
    expect(profile.shortenTo).toBeUndefined();
    expect(prepareText(profile, "Crème", "query")).toBe("ask: creme");
    expect(prepareText(profile, "Crème", "document")).toBe("note: creme");
  });

  it("applies a known profile to a model of another name", () => {
    const { find } = read({ mine: { profile: "nomic" } });
    expect(find("mine")).toEqual({ ...profileForModel("nomic-embed-text"), clean: expect.any(Function) });
  });

  it("reads the dimensions of models with several sizes from the server", () => {
    expect(read({ mine: { profile: "arctic" } }).find("mine").dimensions).toBeUndefined();
    expect(read({ mine: { profile: "arctic", dimensions: 768 } })).toMatchObject({ problems: [] });
  });

  it("overrides parts of the built-in profile and keeps the rest", () => {
    const profile = read({ "nomic-embed-text": { query_prefix: "" } }).find("nomic-embed-text");
    expect(profile).toMatchObject({ queryPrefix: "", documentPrefix: "search_document: ", dimensions: 768 });
  });

  it("applies to a single tag if it names one, and not to other models", () => {
    const { find } = read({ "all-minilm:l12": { context_tokens: 256 }, mine: { query_prefix: "q " } });
    expect(find("all-minilm:l12").contextTokens).toBe(256);
    expect(find("all-minilm").name).toBe("minilm/1");
    expect(find("yours").name).toBe("generic/1");
  });

  it("shortens embeddings to dimensions that the model is trained for", () => {
    const profile = read({ "nomic-embed-text": { dimensions: 256 } }).find("nomic-embed-text");
    expect(profile).toMatchObject({ name: "nomic/1", dimensions: 256, shortenTo: 256 });
    const own = read({ mine: { dimensions: 128, shorter_dimensions: [256, 128] } }).find("mine");
    expect(own).toMatchObject({ name: "generic/1", shortenTo: 128, shorterDimensions: [256, 128] });
  });

  it("changes the embedding version only if it changes embeddings", () => {
    const nameOf = (entry: object) => read({ "nomic-embed-text": entry }).find("nomic-embed-text").name;
    expect(nameOf({})).toBe("nomic/1");
    expect(nameOf({ query_prefix: "search_query: ", context_tokens: 2048 })).toBe("nomic/1");
    const names = [
      nameOf({ query_prefix: "q: " }),
      nameOf({ document_prefix: "q: " }),
      nameOf({ clean_up: "none" }),
      nameOf({ context_tokens: 512 }),
    ];
    expect(new Set(names).size).toBe(4);
    for (const name of names) expect(name).toMatch(/^nomic\/1\+/);
    expect(nameOf({ query_prefix: "q: " })).toBe(names[0]);
  });

  it.each([
    ["an unknown profile", { m: { profile: "nomc" } }, `of "m": profile must be one of ${KNOWN}, got "nomc"`],
    [
      "an unknown entry",
      { m: { prefix: "x" } },
      `of "m": has an unknown entry "prefix"; known are ${ENTRIES}`,
    ],
    [
      "dimensions that the model cannot produce",
      { "nomic-embed-text": { dimensions: 300 } },
      'of "nomic-embed-text": dimensions must be one of 768, 512, 256, 128, 64, got 300',
    ],
    [
      "dimensions outside the allowed range",
      { "qwen3-embedding:4b": { dimensions: 3000 } },
      'of "qwen3-embedding:4b": dimensions must be one of 32 to 2560, got 3000',
    ],
    [
      "no dimensions",
      { m: { dimensions: 0 } },
      'of "m": dimensions must be a whole number from 1 to 16000, got 0',
    ],
    [
      "dimensions that are a string",
      { m: { dimensions: "768" } },
      'of "m": dimensions must be a whole number from 1 to 16000, got "768"',
    ],
    [
      "invalid shorter dimensions",
      { m: { shorter_dimensions: [256, 1.5] } },
      'of "m": shorter_dimensions must be a list of whole numbers from 1 to 16000, got [256,1.5]',
    ],
    [
      "an empty context",
      { m: { context_tokens: 8 } },
      'of "m": context_tokens must be a whole number from 64 to 1000000, got 8',
    ],
    [
      "a prefix that fills the context",
      { m: { query_prefix: "x".repeat(2_000) } },
      'of "m": context_tokens must leave room for a text after its prefix',
    ],
    [
      "a prefix that is a number",
      { m: { query_prefix: 1 } },
      'of "m": query_prefix must be text of at most 2000 characters, got 1',
    ],
    [
      "another clean-up",
      { m: { clean_up: "lower" } },
      'of "m": clean_up must be none or uncased, got "lower"',
    ],
    [
      "null",
      { m: { dimensions: null } },
      'of "m": dimensions must be a whole number from 1 to 16000, got null',
    ],
    ["an entry that is no object", { m: "nomic" }, `of "m": must be an object of ${ENTRIES}`],
    ["an empty model name", { "": {} }, 'of "": must be the name of a model'],
    ["a model named twice", { mine: {}, "x/Mine:latest": {} }, 'names "x/Mine:latest" twice'],
  ])("with %s is refused", (_, profiles, problem) => {
    expect(problemsOf(profiles)).toEqual([problem]);
  });

  it("is refused with a list of all problems", () => {
    expect(problemsOf({ a: { clean_up: 1, dimensions: -1 }, b: { profile: 5 } })).toHaveLength(3);
  });
});

test("the documentation lists every profile with its allowed dimensions", async () => {
  const page = await readFile(new URL("../../docs/configuration.md", import.meta.url), "utf8");
  const rows = page.split("\n").filter((line) => line.startsWith("| `"));
  for (const name of profileNames()) {
    const row = rows.find((line) => line.split(" | ")[0]?.includes(`\`${name}\``));
    expect(row, name).toBeDefined();
    const { shorter = [] } = partsOfProfile(name) ?? {};
    for (const length of "min" in shorter ? [shorter.min, shorter.max] : shorter) {
      expect(row, name).toContain(String(length));
    }
  }
});

describe("MEMORY_MODEL_PROFILES", () => {
  let directory: string;
  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), "memory-service-profiles-"));
  });
  afterAll(async () => await rm(directory, { recursive: true }));

  const finder = (value: string) => {
    const { settings } = readConfig({ MEMORY_MODEL_PROFILES: value });
    return readConfiguredProfiles(settings.MEMORY_MODEL_PROFILES).find;
  };

  it("accepts JSON or the path of a JSON file", async () => {
    const json = JSON.stringify({ mine: { query_prefix: "q: " } });
    const file = join(directory, "profiles.json");
    await writeFile(file, json);
    for (const value of [json, file]) expect(finder(value)("mine").queryPrefix).toBe("q: ");
    expect(finder("")("mine").queryPrefix).toBe("");
  });

  it("stops the start with the allowed values if it is invalid", async () => {
    const file = join(directory, "list.json");
    await writeFile(file, "[]");
    expect(() => finder(file)).toThrow(
      "MEMORY_MODEL_PROFILES must be an object with an entry for each model",
    );
    expect(() => finder("/no/such/file")).toThrow(
      'MEMORY_MODEL_PROFILES must be JSON or the path of a readable file, got "/no/such/file"',
    );
    expect(() => finder("{")).toThrow(/^MEMORY_MODEL_PROFILES is not JSON: /);
    expect(() => finder('{"m": {"profile": "x"}}')).toThrow(
      `MEMORY_MODEL_PROFILES of "m": profile must be one of ${KNOWN}, got "x"`,
    );
    // Reported together with all other problems.
    expect(() => readConfig({ MEMORY_MODEL_PROFILES: "{", MEMORY_PORT: "x" })).toThrow(
      /^2 settings are invalid:/,
    );
  });
});
