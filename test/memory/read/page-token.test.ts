import fc from "fast-check";
import { expect, it } from "vitest";
import { createPageTokens } from "../../../src/memory/read/page-token.ts";

const tokens = createPageTokens(async () => Buffer.alloc(32, 7));
const others = createPageTokens(async () => Buffer.alloc(32, 8));
const position = fc.array(fc.string(), { maxLength: 4 });
const query = fc.array(fc.jsonValue(), { maxLength: 4 });
const refused = { reason: "INVALID_PAGE_TOKEN" };

it("opens whatever it has sealed", async () => {
  await fc.assert(
    fc.asyncProperty(query, position, async (asked, ended) => {
      expect(await tokens.open(asked, await tokens.seal(asked, ended))).toEqual(ended);
    }),
  );
});

it("opens a token for the same query with its keys in another order", async () => {
  await fc.assert(
    fc.asyncProperty(fc.dictionary(fc.string(), fc.jsonValue()), async (filter) => {
      const turned = Object.fromEntries(Object.entries(filter).reverse());
      expect(await tokens.open([turned], await tokens.seal([filter], ["m1"]))).toEqual(["m1"]);
    }),
  );
});

it("refuses a token with any character changed, left out or added", async () => {
  await fc.assert(
    fc.asyncProperty(query, position, fc.nat(), fc.constantFrom("A", "_", "", "AA", "="), async (...args) => {
      const [asked, ended, at, other] = args;
      const token = await tokens.seal(asked, ended);
      const index = at % (token.length + 1);
      const changed = token.slice(0, index) + other + token.slice(index + 1);
      fc.pre(changed !== token);
      await expect(tokens.open(asked, changed)).rejects.toMatchObject(refused);
    }),
  );
});

it("refuses a token of another query or another installation, and every other text", async () => {
  await fc.assert(
    fc.asyncProperty(query, position, fc.string(), async (asked, ended, text) => {
      const token = await tokens.seal(asked, ended);
      await expect(tokens.open([...asked, 1], token)).rejects.toMatchObject(refused);
      await expect(others.open(asked, token)).rejects.toMatchObject(refused);
      await expect(tokens.open(asked, text)).rejects.toMatchObject(refused);
    }),
  );
});
