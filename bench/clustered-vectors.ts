import { createRandom } from "./texts.ts";

/** Generates embeddings without texts. */
export interface RowVectors {
  readonly dimensions: number;
  document(n: number): Float32Array;
  /** Returns a vector near the document `about`, like a question near its answer. */
  query(n: number, about: number): Float32Array;
}

const DIMENSIONS = 768;
/** Number of directions in which the vectors differ: a few dozen for embeddings of texts. */
const LATENT = 32;
const CLUSTERS = 200;
/** Spread of members around their centre, relative to the distance of the centres. */
const SPREAD = 0.7;
/** Spread of questions around their document. */
const QUERY_SPREAD = 0.4;
/** Length of the noise in all dimensions, relative to 1 for the signal. */
const NOISE = 0.2;

/**
 * Generates clustered vectors in a space of few dimensions, like embeddings of real texts. The fake Ollama's vectors
 * are nearly orthogonal to each other, which is the hardest case for a vector index and not the usual one.
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

/** Returns normally distributed numbers (Box-Muller). */
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
