import { stopWords } from "../qa/fakes/ollama/words.ts";

/** Generated memories and questions, the same for the same seed and number. */
export interface TextSource {
  /** Returns 12 to 60 words about one topic. */
  memory(n: number): string;
  /**
   * Returns ten words: four from the memory `about`, two random ones, four stop words. By at least one word they match
   * four in ten of all memories (natural questions match six to eight). Another `n` phrases the question differently.
   */
  query(n: number, about: number): string;
  /** Returns the topic of a memory, for its tag. */
  topic(n: number): string;
}

const VOCABULARY = 20_000;
const TOPICS = 50;
const WORDS_PER_TOPIC = 150;
/** The most frequent content words belong to every topic. */
const COMMON_WORDS = 500;
/** The stop words' share of running English text; the rest is divided between topic and vocabulary. */
const STOP_WORD_SHARE = 0.45;
const TOPIC_SHARE = 0.2;

/**
 * Word frequencies follow Zipf's law (the n-th most frequent word occurs 1/n times as often as the first), because
 * the cost of full-text search depends on them. The frequent words are English stop words, the others are invented.
 */
export function createTextSource(seed: number): TextSource {
  const random = createRandom(seed, 0);
  const frequent = shuffled([...stopWords], random);
  const vocabulary = makeWords(VOCABULARY, random);
  const topics = Array.from({ length: TOPICS }, () =>
    Array.from({ length: WORDS_PER_TOPIC }, () => {
      return itemAt(vocabulary, COMMON_WORDS + Math.floor(random() * (VOCABULARY - COMMON_WORDS)));
    }),
  );
  const pickFrequent = zipfPicker(frequent);
  const pickAny = zipfPicker(vocabulary);
  const pickOfTopic = topics.map(zipfPicker);

  const topicOf = (n: number) => Math.floor(createRandom(seed, 3 * n + 1)() * TOPICS);

  function contentWord(topic: number, draw: () => number): string {
    const share = TOPIC_SHARE / (1 - STOP_WORD_SHARE);
    return draw() < share ? itemAt(pickOfTopic, topic)(draw) : pickAny(draw);
  }

  function memoryWords(n: number): string[] {
    const draw = createRandom(seed, 3 * n + 2);
    const topic = topicOf(n);
    return Array.from({ length: 12 + Math.floor(draw() * 49) }, () =>
      draw() < STOP_WORD_SHARE ? pickFrequent(draw) : contentWord(topic, draw),
    );
  }

  return {
    memory(n) {
      return `${memoryWords(n).join(" ")}.`;
    },
    query(n, about) {
      const draw = createRandom(seed, 3 * n + 3);
      const known = memoryWords(about).filter((word) => !stopWords.has(word));
      const words = Array.from({ length: 4 }, () => itemAt(known, Math.floor(draw() * known.length)));
      const common = Array.from({ length: 2 }, () => pickAny(draw));
      const others = Array.from({ length: 4 }, () => pickFrequent(draw));
      return `${shuffled([...words, ...common, ...others], draw).join(" ")}?`;
    },
    topic: (n) => `topic-${topicOf(n)}`,
  };
}

/** Returns numbers from 0 to below 1, the same for the same seed and stream (mulberry32). */
export function createRandom(seed: number, stream: number): () => number {
  let state = (Math.imul(seed + 1, 0x9e3779b1) ^ Math.imul(stream + 1, 0x85ebca6b)) >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

function makeWords(count: number, random: () => number): string[] {
  const letters = (from: string) => from[Math.floor(random() * from.length)] ?? "";
  const words = new Set<string>();
  while (words.size < count) {
    let word = "";
    for (let syllables = 2 + Math.floor(random() * 3); syllables > 0; syllables--) {
      word += letters("bcdfghjklmnprstvwz") + letters("aeiou") + (random() < 0.3 ? letters("lmnrst") : "");
    }
    words.add(word);
  }
  return [...words];
}

function zipfPicker(words: readonly string[]): (random: () => number) => string {
  const sums = new Float64Array(words.length);
  let sum = 0;
  for (let i = 0; i < words.length; i++) {
    sum += 1 / (i + 1);
    sums[i] = sum;
  }
  return (random) => {
    const wanted = random() * sum;
    let low = 0;
    let high = words.length - 1;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((sums[middle] ?? 0) < wanted) low = middle + 1;
      else high = middle;
    }
    return itemAt(words, low);
  };
}

function shuffled<T>(items: readonly T[], random: () => number): T[] {
  const result = [...items];
  for (let i = result.length - 1; i > 0; i--) {
    const j = Math.floor(random() * (i + 1));
    [result[i], result[j]] = [itemAt(result, j), itemAt(result, i)];
  }
  return result;
}

function itemAt<T>(items: readonly T[], index: number): T {
  const item = items[index];
  if (item === undefined) throw new RangeError(`no item ${index} of ${items.length}`);
  return item;
}
