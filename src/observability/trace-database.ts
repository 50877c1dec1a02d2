import { SpanKind, type SpanOptions, type Tracer } from "@opentelemetry/api";
import type {
  Database,
  Parameter,
  Queryable,
  QueryOptions,
  Row,
  Statement,
} from "../storage/database/database.ts";
import { inChildSpan } from "./spans.ts";

/**
 * The same database, whose statements are spans `sql <statement name>` below the span of their call. The texts of
 * statements and their parameters are not in them.
 */
export function traceDatabase(database: Database, tracer: Tracer): Database {
  const whole = (name: string) => () => spanOptions({ "db.operation.name": name });
  return {
    engine: database.engine,
    ...traceQueryable(database, tracer),
    transaction: (work, options) =>
      inChildSpan(tracer, "sql transaction", whole("transaction"), () =>
        database.transaction((transaction) => work(traceQueryable(transaction, tracer)), options),
      ),
    session: (work, options) =>
      inChildSpan(tracer, "sql session", whole("session"), () =>
        database.session((session) => work(traceQueryable(session, tracer)), options),
      ),
    ping: (timeoutMs) => database.ping(timeoutMs),
    connections: () => database.connections(),
    close: () => database.close(),
  };
}

function traceQueryable(queryable: Queryable, tracer: Tracer): Queryable {
  return {
    query<R extends Row>(statement: Statement, parameters?: readonly Parameter[], options?: QueryOptions) {
      const { name, domain } = describe(statement);
      return inChildSpan(
        tracer,
        `sql ${name}`,
        () => spanOptions({ "db.query.summary": name, ...(domain && { "memory_service.domain": domain }) }),
        () => queryable.query<R>(statement, parameters, options),
      );
    },
    execute: (script) =>
      inChildSpan(
        tracer,
        "sql script",
        () => spanOptions({}),
        () => queryable.execute(script),
      ),
  };
}

function spanOptions(attributes: Record<string, string>): SpanOptions {
  return { kind: SpanKind.CLIENT, attributes: { "db.system.name": "postgresql", ...attributes } };
}

/** Names are `claim_pending:work`, with the domain of the tables. What has no name is called by its first word. */
function describe({ name, text }: Statement): {
  readonly name: string;
  readonly domain?: string | undefined;
} {
  if (name === undefined) return { name: /[a-z]+/i.exec(text)?.[0].toLowerCase() ?? "statement" };
  const [base = name, domain] = name.split(":", 2);
  return { name: base, domain };
}
