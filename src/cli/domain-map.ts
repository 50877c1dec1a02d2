import { UsageError } from "./usage-error.ts";

/** Parses the values of `--map`, such as `Old Name=new-name`, into new names by old name. @throws UsageError */
export function domainMapFrom(pairs: readonly string[]): ReadonlyMap<string, string> {
  return new Map(
    pairs.map((pair) => {
      const at = pair.lastIndexOf("=");
      if (at < 1) throw new UsageError(`--map must have the form 'Old Name=new-name', got "${pair}"`);
      return [pair.slice(0, at), pair.slice(at + 1)] as const;
    }),
  );
}
