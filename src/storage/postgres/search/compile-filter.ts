import type { Filter, MetadataTest, NumberRange, TimeRange } from "../../../memory/model/filter.ts";
import type { JsonValue } from "../../../memory/model/memory.ts";
import type { Parameter } from "../../database/database.ts";
import { isAlive } from "../domains/domain-tables.ts";

/**
 * Values up to which a list of them is looked up in the index. Every row that the index finds is compared with half of
 * them, a third of a microsecond each: with 500 values and 50,000 rows, four seconds. Without the index the values are
 * hashed.
 */
const MAX_LOOKED_UP = 16;

export interface CompileOptions {
  /** Few rows pass: long lists of values are looked up in the index, too. Default false. */
  readonly selective?: boolean;
}

/** The condition that a row of `memories` (under this alias) exists for callers and passes the filter, if any. */
export function isMatching(
  filter: Filter | undefined,
  parameters: Parameter[],
  alias: string,
  options?: CompileOptions,
): string {
  return filter === undefined
    ? isAlive(alias)
    : `${isAlive(alias)} and ${compileFilter(filter, parameters, alias, options)}`;
}

/**
 * The condition that a row of `memories` (under this alias) passes the filter, which obeys the bounds of the contract.
 * Values become `$n`, numbered on from the parameters that are there. Every part is true or false, never null, so that
 * `not` is the negation that the filter means. `@>` and `?` are what the GIN index on metadata serves.
 *
 * Numbers are compared as `numeric`: exact, also where an imported number is none that a double can hold. Shortest
 * decimals order as their doubles do.
 */
export function compileFilter(
  filter: Filter,
  parameters: Parameter[],
  alias: string,
  options: CompileOptions = {},
): string {
  const place = (value: Parameter, type: string) => `$${parameters.push(value)}::${type}`;
  const metadata = `${alias}.metadata`;

  /** `->` with a text finds members of objects only; `#>` would take "0" for an element of a list. */
  const valueAt = (path: readonly string[]) =>
    [metadata, ...path.map((key) => place(key, "text"))].join(" -> ");

  const combine = (filters: readonly Filter[], operator: "and" | "or") =>
    `(${filters.map((inner) => compileFilter(inner, parameters, alias, options)).join(` ${operator} `)})`;

  /** The metadata contain one of these; nothing where looking them up in the index would cost more than it saves. */
  const containsOneOf = (wrapped: readonly string[]) => {
    const [only] = wrapped;
    if (wrapped.length === 1 && only !== undefined) return `${metadata} @> ${place(only, "jsonb")} and`;
    const lookUp = wrapped.length <= MAX_LOOKED_UP || options.selective === true;
    return lookUp ? `${metadata} @> any(${place(wrapped, "jsonb[]")}) and` : "";
  };

  /** The metadata hold one of the values at the path: containment alone finds longer lists and larger objects, too. */
  const holdsOneOf = (path: readonly string[], values: readonly JsonValue[]) => {
    const contains = containsOneOf(values.map((value) => wrap(path, value)));
    const candidates = values.map((value) => JSON.stringify(value));
    return `(${contains} coalesce(${valueAt(path)} = any(${place(candidates, "jsonb[]")}), false))`;
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
    const contains = containsOneOf(tags.map((tag) => wrap(["tags"], [tag])));
    const list = `${metadata} -> 'tags'`;
    return `(${contains} case when jsonb_typeof(${list}) = 'array'
      then ${list} ?| ${place(tags, "text[]")} else false end)`;
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
