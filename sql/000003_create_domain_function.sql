-- Makes the tables of a domain, or brings older ones up to date. A second call changes nothing.
-- embedding_version has no foreign key: its check would lock the one version row in every insert.

create function create_domain_memories_table(domain text, dimensions integer default 768) returns void
language plpgsql as $$
declare
  memories text := format('%I', domain || '_memories');
  chunks text := format('%I', domain || '_chunks');
  known memory_domains;
  vector_type text;
begin
  if domain !~ '^[a-z][a-z0-9_-]{0,39}$' then
    raise exception 'domain name % is not allowed', quote_literal(domain)
      using errcode = 'invalid_parameter_value',
        hint = 'a lower-case letter, then at most 39 of a-z, 0-9, _ and -';
  end if;

  -- "if not exists" does not protect two callers at once from each other.
  perform pg_advisory_xact_lock(hashtextextended('memory-service domain ' || domain, 0));

  insert into memory_domains (name, dimensions) values (domain, create_domain_memories_table.dimensions)
  on conflict (name) do nothing;
  select * into known from memory_domains where name = domain;
  vector_type := case when known.dimensions is null then 'vector' else format('vector(%s)', known.dimensions) end;

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

  execute format('create table if not exists %s (
    memory_id varchar(50) not null references %s (id) on delete cascade,
    chunk_index integer not null check (chunk_index >= 1),
    start_offset integer not null check (start_offset >= 0),
    end_offset integer not null check (end_offset > start_offset),
    embedding %s not null,
    embedding_version integer not null,
    primary key (memory_id, chunk_index)
  )', chunks, memories, vector_type);

  perform set_domain_embedding_storage(domain, known.dimensions);

  execute format('comment on table %s is %L', memories,
    format('memories of the domain %s; embedding is that of chunk 0', domain));
  execute format('comment on column %s.ttl is %L', memories, 'as the caller sent it; null where an expiry time was sent');
  execute format('comment on column %s.embed_after is %L', memories,
    'while pending: no worker takes it before (a lease, or back-off after a failure)');
  execute format('comment on table %s is %L', chunks,
    format('chunks 1..n of long memories of the domain %s', domain));
  execute format('comment on column %s.start_offset is %L', chunks, 'in characters (code points) of the content, from 0');

  -- Every index says which query it serves.
  perform create_domain_index(domain, '_memories_metadata_idx', memories, 'using gin (metadata)',
    'filters on source, importance, tags and metadata');
  perform create_domain_index(domain, '_memories_text_idx', memories, 'using gin (text_vector)', 'text search');
  perform create_domain_index(domain, '_memories_updated_idx', memories, '(updated_at desc)', 'newest changes first');
  perform create_domain_index(domain, '_memories_pending_idx', memories,
    '(embed_after) where embedding_state = ''pending''', 'what the embedding worker takes next');
  perform create_domain_index(domain, '_memories_version_idx', memories, '(embedding_version)',
    'memories of an older embedding version');
  perform create_domain_index(domain, '_memories_expires_idx', memories, '(expires_at) where expires_at is not null',
    'what the sweeper removes next');
end
$$;

comment on function create_domain_memories_table is
  'makes the tables of a domain or brings older ones up to date; dimensions null: not known yet';

-- An index that a failed concurrent build left invalid is dropped and built again.
create function create_domain_index(domain text, suffix text, target text, definition text, purpose text) returns void
language plpgsql as $$
declare
  index_name text := format('%I', domain || suffix);
begin
  if exists (select from pg_index where indexrelid = to_regclass(index_name) and not indisvalid) then
    execute format('drop index %s', index_name);
  end if;
  if to_regclass(index_name) is null then
    execute format('create index %s on %s %s', index_name, target, definition);
    execute format('comment on index %s is %L', index_name, purpose);
  end if;
end
$$;

comment on function create_domain_index is 'makes one index of a domain unless a valid one is there';

-- Plain storage keeps a vector in its row (a scan of 10,000 falls from 47 ms to 10 ms); without the raised
-- target it would push every other column out of line. A row must fit its 8 KB page, so vectors above about
-- 1,900 dimensions keep the default. HNSW takes at most 2,000.
create function set_domain_embedding_storage(domain text, dimensions integer) returns void
language plpgsql as $$
declare
  base text;
begin
  foreach base in array array['_memories', '_chunks'] loop
    if dimensions <= 1900 then
      execute format('alter table %I alter column embedding set storage plain', domain || base);
      execute format('alter table %I set (toast_tuple_target = 8160)', domain || base);
    end if;
    if dimensions <= 2000 then
      perform create_domain_index(domain, base || '_embedding_idx', format('%I', domain || base),
        'using hnsw (embedding vector_cosine_ops)', 'semantic search (cosine distance)');
    end if;
  end loop;
end
$$;

comment on function set_domain_embedding_storage is 'storage and vector index for embeddings of this many dimensions';

-- A model of other dimensions: all embeddings of the domain go, every memory becomes pending. The text stays
-- searchable meanwhile. It rewrites both tables under an exclusive lock.
create function change_domain_dimensions(domain text, dimensions integer) returns void
language plpgsql as $$
declare
  base text;
begin
  perform pg_advisory_xact_lock(hashtextextended('memory-service domain ' || domain, 0));
  if exists (
    select from memory_domains d
    where d.name = domain and d.dimensions is not distinct from change_domain_dimensions.dimensions
  ) then
    return;
  end if;
  -- In the order in which searches and writes take them: the other way round they would deadlock.
  execute format('lock table %I, %I in access exclusive mode', domain || '_memories', domain || '_chunks');
  execute format('truncate %I', domain || '_chunks');
  execute format('drop index if exists %I', domain || '_memories_embedding_idx');
  execute format('drop index if exists %I', domain || '_chunks_embedding_idx');
  execute format('update %I set embedding = null, embedding_state = ''pending'', embedding_version = null,
    embedding_attempts = 0, embed_after = now() where embedding_state = ''ready'' or embedding is not null',
    domain || '_memories');
  foreach base in array array['_memories', '_chunks'] loop
    execute format('alter table %I alter column embedding type vector(%s) using null', domain || base, dimensions);
    execute format('alter table %I alter column embedding set storage extended', domain || base);
  end loop;
  update memory_domains d set dimensions = change_domain_dimensions.dimensions, embedding_version = null
  where d.name = domain;
  perform set_domain_embedding_storage(domain, dimensions);
end
$$;

comment on function change_domain_dimensions is
  'empties and retypes the embedding columns of a domain; its memories become pending';
