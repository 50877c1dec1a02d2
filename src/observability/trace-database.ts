import type { Attributes, Tracer } from "@opentelemetry/api";
import type {
  Database,
  Parameter,
  Queryable,
  QueryOptions,
  Row,
  Statement,
} from "../storage/database/database.ts";
import { inChildSpan, type SpanDescription } from "./spans.ts";

/**
 * Returns a wrapper of the database that records each statement as a span `sql <statement name>` below the span of its
 * call. Spans include neither the text of statements nor parameters.
 */
export function traceDatabase(database: Database, tracer: Tracer): Database {
  return {
    engine: database.engine,
    ...traceQueryable(database, tracer),
    transaction: (work, options) =>
      inChildSpan(
        tracer,
        () => description("transaction"),
        () => database.transaction((transaction) => work(traceQueryable(transaction, tracer)), options),
      ),
    session: (work, options) =>
      inChildSpan(
        tracer,
        () => description("session"),
        () => database.session((session) => work(traceQueryable(session, tracer)), options),
      ),
    registerVectorTypes: () => database.registerVectorTypes(),
    ping: (timeoutMs) => database.ping(timeoutMs),
    connections: () => database.connections(),
    close: () => database.close(),
  };
}

function traceQueryable(queryable: Queryable, tracer: Tracer): Queryable {
  return {
    query: <R extends Row>(
      statement: Statement,
      parameters?: readonly Parameter[],
      options?: QueryOptions,
    ): Promise<R[]> =>
      inChildSpan(
        tracer,
        () => describe(statement),
        () => queryable.query<R>(statement, parameters, options),
      ),
    execute: (script) =>
      inChildSpan(
        tracer,
        () => description("script"),
        () => queryable.execute(script),
      ),
  };
}

/**
 * Describes a span. A name such as `lease_pending:work` includes the domain. An unnamed statement is named by its first
 * word.
 */
function describe({ name, text }: Statement): SpanDescription {
  if (name === undefined) return description(/[a-z]+/i.exec(text)?.[0].toLowerCase() ?? "statement");
  const [base = name, domain] = name.split(":", 2);
  return description(base, domain === undefined ? {} : { "memory_service.domain": domain });
}

function description(name: string, attributes: Attributes = {}): SpanDescription {
  return { name: `sql ${name}`, attributes: { "db.system.name": "postgresql", ...attributes } };
}
