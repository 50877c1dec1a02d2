-- Creates, changes and drops the tables of domains. A later migration that changes these tables replaces the function
-- concerned and raises memory_tables_revision(). The server then calls create_domain_memories_table for every domain of
-- an older revision, so these functions must also work on tables that exist.

create function memory_tables_revision() returns integer
language sql immutable parallel safe as $$
  select 1
$$;

comment on function memory_tables_revision is
  'Returns the revision of the tables that create_domain_memories_table creates; every change of them raises it.';

create function create_domain_memories_table(domain text, dimensions integer default 768) returns void
language plpgsql as $$
declare
  known memory_domains;
begin
  if domain !~ '^[a-z][a-z0-9_-]{0,39}$' then
    raise exception 'domain name % is not allowed', quote_literal(domain)
      using errcode = 'invalid_parameter_value',
        hint = 'use a lower-case letter, followed by at most 39 characters of a-z, 0-9, _ and -';
  end if;

  -- "if not exists" does not protect two concurrent callers from each other.
  perform lock_memory_domain(domain);

  insert into memory_domains (name, dimensions) values (domain, create_domain_memories_table.dimensions)
  on conflict (name) do nothing;
  select * into known from memory_domains where name = domain;

  -- Altering a table blocks every reader and writer, so it happens only if something has to change.
  if known.tables_revision < memory_tables_revision()
    or to_regclass(format('%I', domain || '_memories')) is null
    or to_regclass(format('%I', domain || '_chunks')) is null
  then
    perform create_domain_tables(known);
    perform comment_domain_tables(domain);
  end if;
  perform set_domain_embedding_storage(domain, known.dimensions);
  perform create_domain_text_vector(known);
  perform create_domain_text_index(domain);
  perform create_domain_indexes(domain);
  perform create_domain_content_index(known);

  update memory_domains d set tables_revision = memory_tables_revision()
  where d.name = domain and d.tables_revision < memory_tables_revision();
end
$$;

comment on function create_domain_memories_table is
  'Creates or upgrades the tables of a domain; a second call changes nothing. Pass null for unknown dimensions.';

-- A table with only the first six columns may already exist, for example because a user has created it. The function
-- then adds the other columns and computes them for its rows.
--
-- embedding_version has no foreign key: every insert would lock the row of the version.
create function create_domain_tables(known memory_domains) returns void
language plpgsql as $$
declare
  memories text := format('%I', known.name || '_memories');
  chunks text := format('%I', known.name || '_chunks');
  vector_type text := case when known.dimensions is null then 'vector' else format('vector(%s)', known.dimensions) end;
begin
  execute format('create table if not exists %s (
    id varchar(50) primary key,
    content text not null,
    embedding %s,
    metadata jsonb not null,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
  )', memories, vector_type);

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

  -- Generating these columns has filled them in existing rows. From now on, a trigger sets them.
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

comment on function create_domain_tables is
  'Creates the two tables of a domain, or adds the columns that existing ones lack.';

create function comment_domain_tables(domain text) returns void
language plpgsql as $$
declare
  memories text := format('%I', domain || '_memories');
  chunks text := format('%I', domain || '_chunks');
begin
  execute format('comment on table %s is %L', memories,
    format('Memories of the domain %s. The column embedding is that of chunk 0.', domain));
  execute format('comment on column %s.ttl is %L', memories,
    'time to live that the caller sent; null if the caller sent an expiry time');
  execute format('comment on column %s.embed_after is %L', memories,
    'while pending: no worker takes the memory before this time, because of a lease or of back-off after a failure');
  execute format('comment on column %s.text_vector is %L', memories,
    'words of the content; set by the trigger memory_text_vector');
  execute format('comment on table %s is %L', chunks,
    format('Chunks 1 to n of long memories of the domain %s.', domain));
  execute format('comment on column %s.start_offset is %L', chunks,
    'first character (code point) of the chunk in the content, counted from 0');
end
$$;

comment on function comment_domain_tables is 'Adds comments to the tables of a domain and their columns.';

-- Plain storage keeps an embedding inside its row (scanning 10,000 of them takes 10 ms instead of 47 ms). Without the
-- raised target, PostgreSQL would then move every other column out of the row. A row must fit its page of 8 KB, so
-- embeddings of more than about 1,900 dimensions keep the default storage. HNSW supports at most 2,000 dimensions.
create function set_domain_embedding_storage(domain text, dimensions integer) returns void
language plpgsql as $$
declare
  base text;
begin
  foreach base in array array['_memories', '_chunks'] loop
    -- Altering a table blocks every reader and writer, so it happens only if the storage has to change.
    if dimensions <= 1900 and exists (
      select from pg_attribute
      where attrelid = to_regclass(format('%I', domain || base)) and attname = 'embedding' and attstorage <> 'p'
    ) then
      execute format('alter table %I alter column embedding set storage plain', domain || base);
    end if;
    if dimensions <= 1900 then
      execute format('alter table %I set (toast_tuple_target = 8160)', domain || base);
    end if;
    if dimensions <= 2000 then
      perform create_domain_index(domain, base || '_embedding_idx', format('%I', domain || base),
        'using hnsw (embedding vector_cosine_ops)', 'semantic search: nearest embeddings by cosine distance');
    end if;
  end loop;
end
$$;

comment on function set_domain_embedding_storage is
  'Sets the storage of embeddings of this many dimensions and creates their HNSW index.';

-- A new text search configuration only replaces the trigger. Its lock is short, and only writers wait for it.
create function create_domain_text_vector(known memory_domains) returns void
language plpgsql as $$
declare
  memories text := format('%I', known.name || '_memories');
begin
  if exists (
    select from pg_trigger
    where tgrelid = to_regclass(memories) and tgname = 'memory_text_vector'
      and tgargs = convert_to(known.text_search_config, 'UTF8') || '\x00'
  ) then
    return;
  end if;
  execute format('create or replace trigger memory_text_vector before insert or update of content on %s
    for each row execute function memory_set_text_vector(%L)', memories, known.text_search_config);
end
$$;

comment on function create_domain_text_vector is
  'Creates or replaces the trigger that indexes contents with the text search configuration of the domain.';

-- Drops and rebuilds an index that a failed concurrent build has left invalid.
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

comment on function create_domain_index is
  'Creates one index of a domain unless a valid one exists; its comment names the query that it serves.';

-- k1 and b are the best values of those tried on Cranfield, CISI and LoCoMo (nDCG@10 .393, .398, .499; with 1.2 and .75
-- .389, .396, .494; with .9 and .4 .377, .376, .510).
create function create_domain_text_index(domain text) returns void
language plpgsql as $$
declare
  memories text := format('%I', domain || '_memories');
begin
  perform create_domain_index(domain, '_memories_text_idx', memories, 'using gin (text_vector)',
    'full-text search: matches words and phrases, excludes words');
  if memory_use_bm25_index() then
    begin
      perform create_domain_index(domain, '_memories_bm25_idx', memories,
        'using bm25 (memory_lexeme_text(text_vector)) with (text_config = ''pg_catalog.simple'', k1 = 1.5, b = 0.6)',
        'full-text search: ranks by BM25');
    exception when others then
      -- The index only makes searches faster, so the domain must not fail without it.
      raise warning 'the domain % has no BM25 index: %', domain, sqlerrm;
    end;
  end if;
end
$$;

comment on function create_domain_text_index is 'Creates the indexes that full-text search reads.';

create function create_domain_indexes(domain text) returns void
language plpgsql as $$
declare
  memories text := format('%I', domain || '_memories');
begin
  perform create_domain_index(domain, '_memories_metadata_idx', memories, 'using gin (metadata)',
    'filters: by source, importance, tags and metadata');
  perform create_domain_index(domain, '_memories_created_idx', memories, '(created_at desc, id desc)',
    'List: pages ordered by create time');
  perform create_domain_index(domain, '_memories_updated_idx', memories, '(updated_at desc, id desc)',
    'List: pages ordered by update time; statistics: the last write');
  perform create_domain_index(domain, '_memories_pending_idx', memories,
    '(embed_after) where embedding_state = ''pending''', 'embedding worker: the next pending memories');
  perform create_domain_index(domain, '_memories_failed_idx', memories,
    '(id) where embedding_state = ''failed''', 'RetryFailed and statistics: the failed memories');
  perform create_domain_index(domain, '_memories_version_idx', memories, '(embedding_version)',
    're-embedding: memories of an older embedding version');
  perform create_domain_index(domain, '_memories_expires_idx', memories, '(expires_at) where expires_at is not null',
    'maintenance: the next expired memories to remove');
end
$$;

comment on function create_domain_indexes is
  'Creates the indexes of a domain that serve neither full-text nor semantic search.';

-- An expired memory counts until it is removed. Storing its content again removes it first.
create function create_domain_content_index(known memory_domains) returns void
language plpgsql as $$
declare
  index_name text := format('%I', known.name || '_memories_content_idx');
  memories text := format('%I', known.name || '_memories');
begin
  if not known.deduplicate_content or exists (
    select from pg_index where indexrelid = to_regclass(index_name) and indisvalid
  ) then
    return;
  end if;
  execute format('drop index if exists %s', index_name);
  execute format('create unique index %s on %s (content_hash)', index_name, memories);
  execute format('comment on index %s is %L', index_name,
    'Store: finds a memory of the same content and prevents a second one');
end
$$;

comment on function create_domain_content_index is
  'Creates the unique index on contents if the domain stores each content only once.';

-- Discards all embeddings of the domain and rewrites both tables under an exclusive lock. Full-text search continues to
-- work afterwards, while the memories are re-embedded.
create function change_domain_dimensions(domain text, dimensions integer) returns void
language plpgsql as $$
declare
  base text;
begin
  perform lock_memory_domain(domain);
  if exists (
    select from memory_domains d
    where d.name = domain and d.dimensions is not distinct from change_domain_dimensions.dimensions
  ) then
    return;
  end if;
  -- Searches and writes lock the tables in this order; the opposite order would deadlock with them.
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
  'Empties the embedding columns of a domain and changes their dimensions; its memories become pending.';

create function drop_domain_memories_table(domain text) returns bigint
language plpgsql as $$
declare
  memories text := format('%I', domain || '_memories');
  chunks text := format('%I', domain || '_chunks');
  alive bigint := 0;
begin
  perform lock_memory_domain(domain);
  if not exists (select from memory_domains where name = domain) then
    return null;
  end if;
  if to_regclass(memories) is not null then
    -- Searches and writes lock the tables in this order; the opposite order would deadlock with them.
    execute format('lock table %s in access exclusive mode', memories);
    execute format('select count(*) from %s where expires_at is null or expires_at > now()', memories) into alive;
  end if;
  execute format('drop table if exists %s, %s', memories, chunks);
  delete from memory_domains where name = domain;
  return alive;
end
$$;

comment on function drop_domain_memories_table is
  'Drops a domain with all its memories. Returns how many of them had not expired; null if there was no such domain.';
