import type { Filter, MetadataTest, NumberRange, TimeRange } from "../../../memory/model/filter.ts";
import type { JsonValue } from "../../../memory/model/memory.ts";
import type { Parameter } from "../../database/database.ts";
import { isAlive } from "../domains/domain-tables.ts";

/**
 * Maximum length of a list of values that uses the index. PostgreSQL compares every row that the index finds with half of the
 * values on average, at a third of a microsecond each: four seconds for 500 values and 50,000 rows. Without the index it hashes the
 * values.
 */
const MAX_LOOKED_UP = 16;

export interface CompileOptions {
  /** Whether few rows match, so that long lists of values use the index too. Defaults to false. */
  readonly selective?: boolean;
}

/** Returns the condition that a row of `memories` (under this alias) has not expired and matches the filter, if any. */
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
 * Returns the condition that a row of `memories` (under this alias) matches the filter, which is within the bounds of the
 * contract. Values become parameters after the existing ones. Every part is true or false, never null, so that `not` negates as
 * the filter means it. The GIN index on metadata serves `@>` and `?`.
 *
 * Numbers are compared as `numeric`, which is exact even if an imported number does not fit a double. Shortest decimals have the
 * same order as their doubles.
 */
export function compileFilter(
  filter: Filter,
  parameters: Parameter[],
  alias: string,
  options: CompileOptions = {},
): string {
  const parameter = (value: Parameter, type: string) => `$${parameters.push(value)}::${type}`;
  const metadata = `${alias}.metadata`;

  /** Uses `->` with a text, which finds members of objects only. `#>` would treat "0" as an index of a list. */
  const valueAt = (path: readonly string[]) =>
    [metadata, ...path.map((key) => parameter(key, "text"))].join(" -> ");

  const combine = (filters: readonly Filter[], operator: "and" | "or") =>
    `(${filters.map((inner) => compileFilter(inner, parameters, alias, options)).join(` ${operator} `)})`;

  /** Returns the condition that the metadata contain one of these; "" where the index would cost more than it saves. */
  const containsOneOf = (wrapped: readonly string[]) => {
    const [only] = wrapped;
    if (wrapped.length === 1 && only !== undefined) return `${metadata} @> ${parameter(only, "jsonb")} and`;
    const lookUp = wrapped.length <= MAX_LOOKED_UP || options.selective === true;
    return lookUp ? `${metadata} @> any(${parameter(wrapped, "jsonb[]")}) and` : "";
  };

  /** Returns the condition that the metadata have one of the values at the path. Containment also matches longer lists and larger objects. */
  const holdsOneOf = (path: readonly string[], values: readonly JsonValue[]) => {
    const contains = containsOneOf(values.map((value) => wrap(path, value)));
    const candidates = values.map((value) => JSON.stringify(value));
    return `(${contains} coalesce(${valueAt(path)} = any(${parameter(candidates, "jsonb[]")}), false))`;
  };

  /** Imported rows may have any value in the reserved keys. A value that is not a string counts as no source. */
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
      then ${list} ?| ${parameter(tags, "text[]")} else false end)`;
  };

  const passes = (path: readonly string[], test: MetadataTest): string => {
    if (test.kind === "one_of") return holdsOneOf(path, test.values);
    if (test.kind === "contains") return `${metadata} @> ${parameter(wrap(path, [test.element]), "jsonb")}`;
    const value = valueAt(path);
    if (test.kind === "exists" && !test.exists) return `(${value}) is null`;
    // The index finds the rows that have the outermost key.
    const hasKey = `${metadata} ? ${parameter(path[0] ?? "", "text")}`;
    switch (test.kind) {
      case "exists":
        return `(${hasKey} and (${value}) is not null)`;
      case "range":
        return `(${hasKey} and ${isNumberIn(value, test.range)})`;
      case "prefix":
        return `(${hasKey} and case when jsonb_typeof(${value}) = 'string'
          then starts_with((${value}) #>> '{}', ${parameter(test.prefix, "text")}) else false end)`;
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
      bound === undefined ? [] : [`(${value})::numeric ${operator} ${parameter(String(bound), "numeric")}`],
    );
    // `case` prevents the cast of values that are not numbers.
    return `case when jsonb_typeof(${value}) = 'number' then ${tests.join(" and ")} else false end`;
  };

  const isTimeIn = (column: string, { start, end }: TimeRange) => {
    const tests = [
      ...(start === undefined ? [] : [`${column} >= memory_time(${parameter(start, "bigint")})`]),
      ...(end === undefined ? [] : [`${column} < memory_time(${parameter(end, "bigint")})`]),
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
      return `${alias}.id = any(${parameter(filter.ids, "text[]")})`;
    case "sources":
      return hasSource(filter.sources);
    case "tags_any":
      return hasAnyTag(filter.tags);
    case "tags_all":
      return `${metadata} @> ${parameter(wrap(["tags"], filter.tags), "jsonb")}`;
    case "importance":
      return isNumberIn(`${metadata} -> 'importance'`, filter.range);
    case "create_time":
      return isTimeIn(`${alias}.created_at`, filter.range);
    case "update_time":
      return isTimeIn(`${alias}.updated_at`, filter.range);
    case "metadata":
      return passes(filter.path, filter.test);
    case "embedding_state":
      return `${alias}.embedding_state = ${parameter(filter.state, "text")}`;
  }
}

/** Returns the JSON of the smallest metadata with the value at the path. */
function wrap(path: readonly string[], value: JsonValue): string {
  return path.reduceRight((inner, key) => `{${JSON.stringify(key)}:${inner}}`, JSON.stringify(value));
}
