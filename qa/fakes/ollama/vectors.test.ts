import { describe, expect, it } from "vitest";
import { cosineSimilarity, createEmbeddingSpace, synonymGroups } from "./index.ts";
import { embed, startForTest } from "./testing.ts";
import { stem } from "./words.ts";

const options = { seed: "test", dimensions: 768, wantsPrefix: true, cjkUnknown: true };
const space = createEmbeddingSpace(options);
const query = (text: string) => space.embed(`search_query: ${text}`);
const document = (text: string) => space.embed(`search_document: ${text}`);

/** A question, its answer, and an unrelated text. */
const triples: readonly (readonly [string, string, string])[] = [
  ["what is the db password", "the postgres credential is in the vault", "the meeting moved to Tuesday"],
  ["does the user like coffee", "the customer enjoys espresso", "the server runs on port 8080"],
  ["how do we deploy", "releases ship every Friday", "the dog is called Bruno"],
  ["favourite food of Anna", "Anna prefers Thai cuisine", "Anna has a red car"],
  ["which car does he have", "he drives an old automobile", "he has an old dog"],
  ["where does she live", "her apartment is in the city of Lyon, where she lives", "she is allergic to nuts"],
  ["why did the server crash", "the machine failed with an out of memory error", "the film was boring"],
  ["who is my boss", "Maria is the manager of the team", "the database is postgres"],
  ["when is the deadline", "the report is due on 3 March", "the cat sleeps all day"],
  ["trip to Japan", "the vacation in Japan was booked", "the invoice of June is unpaid"],
  ["how much does it cost", "the price is 40 euros a month", "tests run on two cores"],
  ["phone number of mum", "the telephone of his mother is 555-0101", "he studied physics"],
  ["kids of the user", "the customer has two children", "the build takes four minutes"],
  ["find slow queries", "searching is sluggish for long queries", "lunch is at noon"],
  ["login does not work", "authentication fails since the update", "the picture hangs in the hall"],
  ["delete old files", "documents are removed after a year", "she plays the piano"],
  ["error E1234", "exception E1234 means a full disk", "exception E9876 means no network"],
  ["user_id column", "user_id is the primary key of the table", "the train leaves at nine"],
  ["cheap flights", "affordable planes to Rome", "expensive watches from Geneva"],
  ["fix the login bug", "patched the defect in signin", "painted the kitchen wall green"],
];

describe("vectors of the fake", () => {
  it.each(triples)("places %j closer to %j than to %j", (question, near, far) => {
    const nearness = cosineSimilarity(query(question), document(near));
    expect(nearness).toBeGreaterThan(cosineSimilarity(query(question), document(far)) + 0.1);
  });

  it("keeps close vectors close in fewer dimensions", () => {
    const [question, near, far] = triples[0] ?? ["", "", ""];
    const short = (vector: Float64Array) => vector.slice(0, 256);
    expect(cosineSimilarity(short(query(question)), short(document(near)))).toBeGreaterThan(
      cosineSimilarity(short(query(question)), short(document(far))) + 0.1,
    );
  });

  it("returns unit vectors, also for an empty text", () => {
    for (const text of ["", "a", "Ünïcödé 苹果 🙂", "word ".repeat(500)]) {
      expect(Math.hypot(...document(text))).toBeCloseTo(1, 6);
    }
  });

  it("computes the same bytes for a text alone, in a batch, in any order and in another process", async () => {
    const texts = ["one", "two words", "three small words", "quatre petits mots français"];
    const first = await startForTest();
    const second = await startForTest();
    const batch = (await embed(first, texts)).json.embeddings;
    const reversed = (await embed(second, texts.toReversed())).json.embeddings.toReversed();
    const single = await Promise.all(
      texts.map(async (text) => (await embed(second, text)).json.embeddings[0]),
    );
    expect(reversed).toEqual(batch);
    expect(single).toEqual(batch);
    // Pinned, so that a change of the vectors is noticed: other tests may depend on thresholds.
    expect(batch[0].slice(0, 3)).toEqual([-0.0128025319, -0.0336846709, -0.2124018818]);
  });

  it("creates another space for another seed, model or digest", async () => {
    const twin = { name: "twin", family: "bert", dimensions: 32, contextLength: 64 };
    const first = await startForTest({ models: [twin] });
    const second = await startForTest({ seed: "other" });
    const vector = first.embedding("coffee", "tiny");
    const others = [second.embedding("coffee", "tiny"), first.embedding("coffee", "twin")];
    first.models.add({ ...twin, digest: "f".repeat(64) });
    others.push(first.embedding("coffee", "twin"));
    for (const [index, other] of others.entries()) {
      for (const another of [vector, ...others.slice(0, index)]) {
        expect(Math.abs(cosineSimilarity(another, other))).toBeLessThan(0.6);
      }
    }
  });

  it("adds noise without the task prefix if the model needs one", () => {
    const [a, b] = ["the user likes coffee", "the customer loves espresso"];
    const withPrefix = cosineSimilarity(query(a), document(b));
    const without = cosineSimilarity(space.embed(a), space.embed(b));
    expect(without).toBeLessThan(withPrefix - 0.1);
    expect(without).toBeGreaterThan(0.2);
  });

  it.each([
    "search_query: x",
    "Represent this sentence for searching relevant passages: x",
    "query: x",
    "task: search result | query: x",
    "title: none | text: x",
    "Instruct: find memories\nQuery:x",
  ])("removes the task prefix of %j", (text) => {
    expect(cosineSimilarity(space.embed(text), document("x"))).toBeCloseTo(1, 9);
  });

  it("ignores case and diacritics", () => {
    expect(query("CAFÉ Noir")).toEqual(query("cafe noir"));
  });

  it("does not distinguish CJK characters that are not in the vocabulary", () => {
    const other = createEmbeddingSpace({ ...options, cjkUnknown: false });
    expect(query("苹果")).toEqual(query("钢笔"));
    expect(cosineSimilarity(other.embed("query: 苹果"), other.embed("query: 钢笔"))).toBeLessThan(0.5);
  });

  it("has each synonym in one group", () => {
    const stems = synonymGroups.flatMap((group) => [...new Set(group.map(stem))]);
    expect(stems.filter((word, index) => stems.indexOf(word) !== index)).toEqual([]);
    expect(synonymGroups.length).toBeGreaterThanOrEqual(60);
  });

  it.each([
    ["deploying", "deploy"],
    ["shipped", "ship"],
    ["queries", "query"],
    ["databases", "databas"],
    ["database", "databas"],
    ["class", "class"],
    ["red", "red"],
  ])("stems %s to %s", (word, expected) => {
    expect(stem(word)).toBe(expected);
  });
});
