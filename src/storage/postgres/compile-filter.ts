import type { Filter, MetadataTest, NumberRange, TimeRange } from "../../memory/filter.ts";
import type { JsonValue } from "../../memory/memory.ts";
import type { Parameter } from "../database/database.ts";
import { isAlive } from "./domain-tables.ts";

/** The condition that a row of `memories` (under this alias) exists for callers and passes the filter, if any. */
export function isMatching(filter: Filter | undefined, parameters: Parameter[], alias: string): string {
  return filter === undefined
    ? isAlive(alias)
    : `${isAlive(alias)} and ${compileFilter(filter, parameters, alias)}`;
}

/**
 * The condition that a row of `memories` (under this alias) passes the filter, which obeys the bounds of the contract.
 * Values become `$n`, numbered on from the parameters that are there. Every part is true or false, never null, so that
 * `not` is the negation that the filter means. `@>` and `?` are what the GIN index on metadata serves.
 *
 * Numbers are compared as `numeric`: exact, also where an imported number is none that a double can hold. Shortest
 * decimals order as their doubles do.
 */
export function compileFilter(filter: Filter, parameters: Parameter[], alias: string): string {
  const place = (value: Parameter, type: string) => `$${parameters.push(value)}::${type}`;
  const metadata = `${alias}.metadata`;

  /** `->` with a text finds members of objects only; `#>` would take "0" for an element of a list. */
  const valueAt = (path: readonly string[]) =>
    [metadata, ...path.map((key) => place(key, "text"))].join(" -> ");

  const combine = (filters: readonly Filter[], operator: "and" | "or") =>
    `(${filters.map((inner) => compileFilter(inner, parameters, alias)).join(` ${operator} `)})`;

  /** The metadata hold one of the values at the path. */
  const holdsOneOf = (path: readonly string[], values: readonly JsonValue[]) => {
    const wrapped = values.map((value) => wrap(path, value));
    const [only] = values.length === 1 ? wrapped : [];
    if (only !== undefined && !isComposite(values[0])) return `${metadata} @> ${place(only, "jsonb")}`;
    // Containment finds longer lists and larger objects, too. The second test hashes its values: a scan without the
    // index would compare a thousand of them one by one.
    const contained =
      only === undefined
        ? `${metadata} @> any(${place(wrapped, "jsonb[]")})`
        : `${metadata} @> ${place(only, "jsonb")}`;
    const equal = `${valueAt(path)} = any(${place(
      values.map((value) => JSON.stringify(value)),
      "jsonb[]",
    )})`;
    return `(${contained} and ${equal})`;
  };

  /** Imported rows may hold anything in the reserved keys; what is no string is no source. */
  const hasSource = (sources: readonly string[]) => {
    const named = sources.filter((source) => source !== "");
    const parts = named.length > 0 ? [holdsOneOf(["source"], named)] : [];
    if (named.length < sources.length) {
      parts.push(
        `jsonb_typeof(${metadata} -> 'source') is distinct from 'string'`,
        `${metadata} @> '{"source":""}'`,
      );
    }
    return `(${parts.join(" or ")})`;
  };

  const hasAnyTag = (tags: readonly string[]) => {
    const contained = tags.map((tag) => wrap(["tags"], [tag]));
    const [only] = contained;
    if (contained.length === 1 && only !== undefined) return `${metadata} @> ${place(only, "jsonb")}`;
    return `(${metadata} @> any(${place(contained, "jsonb[]")})
      and ${metadata} -> 'tags' ?| ${place(tags, "text[]")})`;
  };

  const passes = (path: readonly string[], test: MetadataTest): string => {
    if (test.kind === "one_of") return holdsOneOf(path, test.values);
    if (test.kind === "contains") return `${metadata} @> ${place(wrap(path, [test.element]), "jsonb")}`;
    const value = valueAt(path);
    if (test.kind === "exists" && !test.exists) return `(${value}) is null`;
    // The index finds the rows that have the outermost key at all.
    const hasKey = `${metadata} ? ${place(path[0] ?? "", "text")}`;
    switch (test.kind) {
      case "exists":
        return `(${hasKey} and (${value}) is not null)`;
      case "range":
        return `(${hasKey} and ${isNumberIn(value, test.range)})`;
      case "prefix":
        return `(${hasKey} and case when jsonb_typeof(${value}) = 'string'
          then starts_with((${value}) #>> '{}', ${place(test.prefix, "text")}) else false end)`;
    }
  };

  const isNumberIn = (value: string, range: NumberRange) => {
    const bounds = [
      ["<", range.lt],
      ["<=", range.lte],
      [">", range.gt],
      [">=", range.gte],
    ] as const;
    const tests = bounds.flatMap(([operator, bound]) =>
      bound === undefined ? [] : [`(${value})::numeric ${operator} ${place(String(bound), "numeric")}`],
    );
    // `case` keeps the cast away from values that are no numbers.
    return `case when jsonb_typeof(${value}) = 'number' then ${tests.join(" and ")} else false end`;
  };

  const isTimeIn = (column: string, { start, end }: TimeRange) => {
    const tests = [
      ...(start === undefined ? [] : [`${column} >= memory_time(${place(start, "bigint")})`]),
      ...(end === undefined ? [] : [`${column} < memory_time(${place(end, "bigint")})`]),
    ];
    return `(${tests.join(" and ")})`;
  };

  switch (filter.kind) {
    case "all_of":
      return combine(filter.filters, "and");
    case "any_of":
      return combine(filter.filters, "or");
    case "none_of":
      return `not ${combine(filter.filters, "or")}`;
    case "ids":
      return `${alias}.id = any(${place(filter.ids, "text[]")})`;
    case "sources":
      return hasSource(filter.sources);
    case "tags_any":
      return hasAnyTag(filter.tags);
    case "tags_all":
      return `${metadata} @> ${place(wrap(["tags"], filter.tags), "jsonb")}`;
    case "importance":
      return isNumberIn(`${metadata} -> 'importance'`, filter.range);
    case "create_time":
      return isTimeIn(`${alias}.created_at`, filter.range);
    case "update_time":
      return isTimeIn(`${alias}.updated_at`, filter.range);
    case "metadata":
      return passes(filter.path, filter.test);
    case "embedding_state":
      return `${alias}.embedding_state = ${place(filter.state, "text")}`;
  }
}

/** The JSON of the smallest metadata that hold the value at the path. */
function wrap(path: readonly string[], value: JsonValue): string {
  return path.reduceRight((inner, key) => `{${JSON.stringify(key)}:${inner}}`, JSON.stringify(value));
}

function isComposite(value: JsonValue | undefined): boolean {
  return typeof value === "object" && value !== null;
}
