import { describe, expect, test } from "vitest";
import { specialTokens, tokenEnds } from "../../../qa/fakes/ollama/tokens.ts";
import { profileForModel } from "../../../src/embedding/model-profiles.ts";
import { createContentEmbedder } from "../../../src/memory/embed/content-embedder.ts";
import type { Repository } from "../../../src/memory/model/repository.ts";
import { startReadyBench } from "../../embedding/with-fake.ts";
import { silentLogger } from "../../support/silent-logger.ts";

const code = `export async function* readPages(url: URL, { signal }: Options = {}): AsyncGenerator<Page[]> {
  for (let page = 0; (page + 1) * 100 <= limit && !signal?.aborted; page++) {
    yield (await fetch(\`\${url}?p=\${page}&n=100\`, { signal })).json().map((x) => ({ ...x, [x.id]: x?.["key"] ?? -1 }));
  }
}

`;
/** As a compressed file looks: the same on each run. */
const base64 = Buffer.from(Array.from({ length: 6_000 }, (_, i) => (i * 7_919 + (i >> 3) * 104_729) & 255))
  .toString("base64")
  .slice(0, 8_000);

/** The fake counts a token for each four letters, and for each character of Chinese or punctuation. */
const contents = [
  ["prose", "We walked along the river until it was dark. Nobody said a word.\n\n".repeat(150)],
  ["code", code.repeat(25)],
  ["base64", base64],
  ["a line of 200,000 letters", "x".repeat(200_000)],
  ["hexadecimal bytes", "0x1f, ".repeat(1_500)],
  ["Chinese", "今天下雨了，我们在家里看书。".repeat(600)],
  ["Chinese without punctuation", "中文字".repeat(2_500)],
  ["punctuation", "-/".repeat(4_000)],
  ["emoji", "👩‍👩‍👧‍👦🇩🇪".repeat(300)],
] as const;

describe.each([
  ["all-minilm", 256],
  ["mxbai-embed-large", 512],
  ["nomic-embed-text", 2_048],
] as const)("chunks for %s, which takes %d tokens", (model, limit) => {
  test.each(contents)("fit it in %s, and cover that without loss", async (_, content) => {
    const { embedder, batches } = await startReadyBench({}, { model });
    const repository: Pick<Repository, "registerEmbeddingVersion"> = {
      registerEmbeddingVersion: async () => 1,
    };
    const { embedContent, countChunks } = createContentEmbedder({
      embedder,
      repository: repository as Repository,
      logger: silentLogger,
    });
    const { chunks } = await embedContent(content);
    const points = [...content];
    const texts = chunks.map(({ start, end }) => points.slice(start, end).join(""));
    expect(texts.join("")).toBe(content);
    for (const text of texts) {
      const { documentPrefix, clean } = profileForModel(model);
      expect(tokenEnds(documentPrefix + clean(text)).length + specialTokens).toBeLessThanOrEqual(limit);
    }
    expect(chunks.length).toBeGreaterThanOrEqual(countChunks(content));
    // Not cut finer than is needed: less than four times the fewest that could hold it.
    const tokens = tokenEnds(content).length;
    expect(chunks.length).toBeLessThan(
      4 * Math.ceil(Math.max(tokens / (limit - 32), content.length / 8_000)) + 4,
    );
    expect(batches().flat().length).toBeLessThan(4 * chunks.length + 40);
  });
});
