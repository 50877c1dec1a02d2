/** Unit vectors, stored side by side. */
export interface VectorTable {
  readonly dimensions: number;
  readonly count: number;
  readonly values: Float32Array;
}

/** Collects the vectors that `vectorOf` returns for 0 to `count` - 1. */
export function collectVectors(
  count: number,
  dimensions: number,
  vectorOf: (n: number) => Float32Array,
): VectorTable {
  const values = new Float32Array(count * dimensions);
  for (let n = 0; n < count; n++) values.set(vectorOf(n), n * dimensions);
  return { dimensions, count, values };
}

export function rowOf({ values, dimensions }: VectorTable, n: number): Float32Array {
  return values.subarray(n * dimensions, (n + 1) * dimensions);
}

/** Returns the rows nearest to `query` by cosine similarity, by exact search over every matching row. */
export function nearestRows(
  table: VectorTable,
  query: Float32Array,
  limit: number,
  passes: (row: number) => boolean = () => true,
): number[] {
  const { dimensions, count, values } = table;
  const best: { row: number; similarity: number }[] = [];
  for (let row = 0; row < count; row++) {
    if (!passes(row)) continue;
    let similarity = 0;
    const start = row * dimensions;
    for (let i = 0; i < dimensions; i++) similarity += (values[start + i] ?? 0) * (query[i] ?? 0);
    const last = best.at(-1);
    if (best.length === limit && last !== undefined && similarity <= last.similarity) continue;
    if (best.length === limit) best.pop();
    const place = best.findIndex((other) => other.similarity < similarity);
    best.splice(place === -1 ? best.length : place, 0, { row, similarity });
  }
  return best.map(({ row }) => row);
}
