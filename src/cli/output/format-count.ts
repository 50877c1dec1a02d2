/** Formats a number with thousands separators, such as `12,345`. */
export function formatCount(count: number | bigint): string {
  return count.toLocaleString("en-US");
}

/** Formats a number of memories, such as `1 memory` or `12,345 memories`. */
export function formatMemoryCount(count: number | bigint): string {
  return `${formatCount(count)} ${Number(count) === 1 ? "memory" : "memories"}`;
}
