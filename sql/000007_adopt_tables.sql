-- Tables of the old memory server are taken over without being rewritten: no column of ours is generated, since adding a
-- generated column writes every row anew while everybody waits. The trigger that makes the text vector makes the hash too.

create or replace function memory_set_text_vector() returns trigger
language plpgsql as $$
begin
  new.content_hash := memory_content_hash(new.content);
  new.text_vector := memory_text_vector(tg_argv[0]::regconfig, new.content);
  return new;
end
$$;

comment on function memory_set_text_vector is 'hashes a content and indexes its words as it is written';

create or replace function create_domain_tables(known memory_domains) returns void
language plpgsql as $$
declare
  memories text := format('%I', known.name || '_memories');
  chunks text := format('%I', known.name || '_chunks');
  vector_type text := case when known.dimensions is null then 'vector' else format('vector(%s)', known.dimensions) end;
begin
  -- The plan's columns.
  execute format('create table if not exists %s (
    id varchar(50) primary key,
    content text not null,
    embedding %s,
    metadata jsonb not null,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
  )', memories, vector_type);

  -- Ours.
  execute format('alter table %s
    add column if not exists version bigint not null default 1,
    add column if not exists chunk_count integer not null default 1 check (chunk_count >= 1),
    add column if not exists expires_at timestamptz,
    add column if not exists ttl interval,
    add column if not exists embedding_state text not null default ''pending''
      check (embedding_state in (''pending'', ''ready'', ''failed'')),
    add column if not exists embedding_version integer,
    add column if not exists embedding_error text,
    add column if not exists embedding_attempts integer not null default 0,
    add column if not exists embed_after timestamptz not null default now(),
    add column if not exists content_hash bytea generated always as (memory_content_hash(content)) stored,
    add column if not exists text_vector tsvector
      generated always as (memory_text_vector(%L::regconfig, content)) stored', memories, known.text_search_config);

  -- Generated so that rows which are there get theirs; from then on the trigger of create_domain_text_vector
  -- writes them.
  execute format('alter table %s
    alter column content_hash drop expression if exists,
    alter column text_vector drop expression if exists', memories);

  execute format('create table if not exists %s (
    memory_id varchar(50) not null references %s (id) on delete cascade,
    chunk_index integer not null check (chunk_index >= 1),
    start_offset integer not null check (start_offset >= 0),
    end_offset integer not null check (end_offset > start_offset),
    embedding %s not null,
    embedding_version integer not null,
    primary key (memory_id, chunk_index)
  )', chunks, memories, vector_type);
end
$$;

create or replace function memory_tables_revision() returns integer
language sql immutable parallel safe as $$
  select 4
$$;
