import type { Fault } from "./faults.ts";
import { ofLength, scaled } from "./vectors.ts";

/** Returns the vectors of a response as JSON values, with a vector fault applied. */
export function vectorValues(vectors: readonly Float64Array[], fault: Fault | undefined): unknown[] {
  const plain = vectors.map((vector) => Array.from(vector));
  const [first] = vectors;
  if (first === undefined) return plain;
  switch (fault?.kind) {
    case "zeros":
      return plain.map((vector) => vector.map(() => 0));
    case "nulls":
      return plain.map((vector) => vector.map(() => null));
    case "strings":
      return plain.map((vector) => vector.map(String));
    case "wrongCount":
      return wrongCount(plain, fault.delta ?? -1);
    case "wrongDim":
      return vectors.map((vector, index) =>
        Array.from(fault.at === undefined || fault.at === index ? ofLength(vector, fault.dims) : vector),
      );
    case "swap":
      return [...plain.slice(-1), ...plain.slice(1, -1), ...(plain.length > 1 ? plain.slice(0, 1) : [])];
    case "constant":
      return vectors.map(() => Array.from(first));
    case "notUnit":
      return vectors.map((vector) => Array.from(scaled(vector, fault.scale)));
    default:
      return plain;
  }
}

function wrongCount(vectors: readonly unknown[], delta: number): unknown[] {
  if (delta < 0) return vectors.slice(0, Math.max(0, vectors.length + delta));
  return [...vectors, ...Array.from({ length: delta }, () => vectors[0])];
}
