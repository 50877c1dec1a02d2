import { readFileSync } from "node:fs";
import { toSql } from "pgvector";
import type { Parameter, Queryable } from "../../../src/storage/database/database.ts";

/** The function of the old server, as its setup script created it. */
const oldFunction = `
create extension if not exists vector;
create or replace function create_domain_memories_table(domain_name text) returns void language plpgsql as $$
declare
  table_name text;
begin
  table_name := domain_name || '_memories';
  execute format('create table if not exists %I (
    id varchar(50) primary key, content text not null, embedding vector(768), metadata jsonb not null,
    created_at timestamp with time zone default now(), updated_at timestamp with time zone default now())', table_name);
  execute format('create index if not exists %I on %I using gin (metadata)', table_name || '_metadata_idx', table_name);
  execute format('create index if not exists %I on %I (updated_at desc)', table_name || '_updated_idx', table_name);
  execute format('create index if not exists %I on %I using gin (to_tsvector(''english'', content))',
    table_name || '_content_idx', table_name);
end
$$;`;

/** A memory as the old server stored it; an undefined `embedding` means that it had no embedder. */
export interface OldMemory {
  readonly id: string;
  readonly content: string;
  readonly metadata?: string;
  readonly embedding?: Iterable<number> | undefined;
  /** In microseconds; undefined is null, which only a manual change can have written. */
  readonly created?: bigint | undefined;
}

/** Creates domains as the old server did. */
export async function makeOldDomains(
  database: Queryable,
  domains: Readonly<Record<string, readonly OldMemory[]>>,
): Promise<void> {
  await database.execute(oldFunction);
  for (const [domain, memories] of Object.entries(domains)) {
    await database.query({ text: "select create_domain_memories_table($1)" }, [domain]);
    const table = (domain.length > 54 ? `${domain}_memories`.slice(0, 63) : `${domain}_memories`).replaceAll(
      '"',
      '""',
    );
    for (const { id, content, metadata = "{}", embedding, created } of memories) {
      const parameters: Parameter[] = [
        id,
        content,
        embedding === undefined ? null : toSql([...embedding]),
        metadata,
        created ?? null,
      ];
      await database.query(
        {
          text: `insert into "${table}" (id, content, embedding, metadata, created_at, updated_at) values (
              $1, $2, $3::text::vector, $4::jsonb, timestamptz 'epoch' + $5::bigint * interval '1 microsecond',
              timestamptz 'epoch' + $5::bigint * interval '1 microsecond')`,
        },
        parameters,
      );
    }
  }
}

/** Restores pg_dump output statement by statement; supports only what dumps of the old version contain. */
export async function restoreDump(database: Queryable, path: string): Promise<void> {
  const lines = readFileSync(path, "utf8").split("\n");
  let script = "";
  for (let at = 0; at < lines.length; at++) {
    const line = lines[at] ?? "";
    const copy = /^COPY (\S+|public\."[^"]+") \((.*)\) FROM stdin;$/.exec(line);
    if (copy === null) {
      // The dump qualifies every name with its schema; the search path must not stay empty.
      if (!/^(--|\\|SET |SELECT pg_catalog\.set_config|COMMENT ON EXTENSION)/.test(line))
        script += `${line}\n`;
      continue;
    }
    await database.execute(script);
    script = "";
    const count = (copy[2] ?? "").split(",").length;
    const values = Array.from({ length: count }, (_, n) => `$${n + 1}::text`);
    values[2] = "$3::text::vector";
    values[3] = "$4::text::jsonb";
    for (let n = 4; n < count; n++) values[n] = `$${n + 1}::text::timestamptz`;
    for (at++; lines[at] !== "\\."; at++) {
      await database.query(
        { text: `insert into ${copy[1]} (${copy[2]}) values (${values.join(", ")})` },
        (lines[at] ?? "").split("\t").map(unescaped),
      );
    }
  }
  await database.execute(script);
}

const escapes: Readonly<Record<string, string>> = { n: "\n", r: "\r", t: "\t", b: "\b", f: "\f", v: "\v" };

function unescaped(field: string): string | null {
  if (field === "\\N") return null;
  return field.replace(/\\(.)/g, (_, character: string) => escapes[character] ?? character);
}
