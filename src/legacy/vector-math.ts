type Vector = Float32Array | readonly number[];

/** Computes the dot product of two vectors of equal length. */
export function dotProduct(a: Vector, b: Vector): number {
  let sum = 0;
  for (let n = 0; n < a.length; n++) sum += (a[n] ?? 0) * (b[n] ?? 0);
  return sum;
}

/** Computes the cosine similarity; 0 if the vectors differ in length. */
export function cosineSimilarity(a: Vector, b: Vector): number {
  if (a.length !== b.length) return 0;
  return dotProduct(a, b) / (Math.hypot(...a) * Math.hypot(...b));
}

/** Scales a vector to unit length; a zero vector stays unchanged. */
export function normalize(vector: Float32Array): Float32Array {
  const length = Math.hypot(...vector);
  return length === 0 ? vector : vector.map((value) => value / length);
}
