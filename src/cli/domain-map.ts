import { UsageError } from "./usage-error.ts";

/** What `--map 'Old Name=new-name'` says, by the old name. @throws UsageError */
export function domainMapFrom(pairs: readonly string[]): ReadonlyMap<string, string> {
  return new Map(
    pairs.map((pair) => {
      const at = pair.lastIndexOf("=");
      if (at < 1) throw new UsageError(`--map must be as 'Old Name=new-name', is "${pair}"`);
      return [pair.slice(0, at), pair.slice(at + 1)] as const;
    }),
  );
}
