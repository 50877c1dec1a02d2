import { createRandom } from "./texts.ts";

/** Embeddings without texts. */
export interface RowVectors {
  readonly dimensions: number;
  document(n: number): Float32Array;
  /** Near the document `about`, as a question is to its answer. */
  query(n: number, about: number): Float32Array;
}

const DIMENSIONS = 768;
/** Directions in which the vectors really differ: embeddings of texts have a few dozen. */
const LATENT = 32;
const CLUSTERS = 200;
/** Of members around their centre, against the distance of the centres. */
const SPREAD = 0.7;
/** Of questions around what they ask for. */
const QUERY_SPREAD = 0.4;
/** Length of what is noise in all dimensions, against 1 for what is not. */
const NOISE = 0.2;

/**
 * Vectors in clusters within a space of few dimensions, as embeddings of real texts are. Those that the fake Ollama makes
 * from words are nearly orthogonal to each other, which is the hardest case for a vector index and not the usual one.
 */
export function createClusteredVectors(seed: number): RowVectors {
  const projection = gaussians(createRandom(seed, 0), DIMENSIONS * LATENT);
  const centres = gaussians(createRandom(seed, 1), CLUSTERS * LATENT);

  function latentOf(n: number): Float32Array {
    const random = createRandom(seed, 3 * n + 2);
    const cluster = Math.floor(random() * CLUSTERS);
    const centre = centres.subarray(cluster * LATENT, (cluster + 1) * LATENT);
    return gaussians(random, LATENT).map((value, i) => (centre[i] ?? 0) + SPREAD * value);
  }

  function project(latent: Float32Array, random: () => number): Float32Array {
    const vector = new Float32Array(DIMENSIONS);
    for (let row = 0; row < DIMENSIONS; row++) {
      let sum = 0;
      for (let i = 0; i < LATENT; i++) sum += (projection[row * LATENT + i] ?? 0) * (latent[i] ?? 0);
      vector[row] = sum;
    }
    const noise = gaussians(random, DIMENSIONS);
    const scale = NOISE / Math.sqrt(DIMENSIONS);
    return normalised(normalised(vector).map((value, i) => value + scale * (noise[i] ?? 0)));
  }

  return {
    dimensions: DIMENSIONS,
    document: (n) => project(latentOf(n), createRandom(seed, 3 * n + 3)),
    query(n, about) {
      const random = createRandom(seed, 3 * n + 4);
      const shift = gaussians(random, LATENT);
      return project(
        latentOf(about).map((value, i) => value + QUERY_SPREAD * (shift[i] ?? 0)),
        random,
      );
    },
  };
}

/** Normally distributed, by Box and Muller. */
function gaussians(random: () => number, count: number): Float32Array {
  return Float32Array.from(
    { length: count },
    () => Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random()),
  );
}

function normalised(vector: Float32Array): Float32Array {
  const length = Math.hypot(...vector);
  return vector.map((value) => value / length);
}
