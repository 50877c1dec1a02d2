-- Domains get settings, an identity and a revision of their tables, and are made by small functions: a later
-- migration replaces the one that it changes and raises memory_tables_revision(); the runner then brings every
-- domain up to date.

alter table memory_domains
  add column id bigint generated always as identity unique,
  add column description text not null default '' check (char_length(description) <= 1024),
  add column deduplicate_content boolean not null default false,
  add column embedding_model text check (embedding_model <> ''),
  add column requested_dimensions integer check (requested_dimensions between 1 and 2000),
  add column former_text_search_configs text[] not null default '{}',
  add column text_reindexed_to text,
  add column tables_revision integer not null default 0;

comment on column memory_domains.id is
  'tells a domain from one of the same name that was dropped before; page tokens are bound to it';
comment on column memory_domains.deduplicate_content is 'whether each content is kept once; never changes';
comment on column memory_domains.embedding_model is 'null: the server''s default, whatever that becomes';
comment on column memory_domains.requested_dimensions is 'asked for at creation; null: the model''s own';
comment on column memory_domains.text_search_config is 'by which the words of new contents are indexed';
comment on column memory_domains.former_text_search_configs is
  'while words are indexed anew: configurations by which some contents may still be indexed';
comment on column memory_domains.text_reindexed_to is
  'while words are indexed anew: the greatest memory id that is done; null: none yet';
comment on column memory_domains.tables_revision is
  'of the functions that made its tables; 0: they are still to be made or brought up to date';

-- Keys that all servers of a database share and nobody else has. Two UUIDs have 244 random bits.
create table memory_secrets (
  name text primary key,
  secret bytea not null,
  created_at timestamptz not null default now()
);

comment on table memory_secrets is 'Keys that the servers of this database share. page_token: authenticates page tokens.';

insert into memory_secrets (name, secret)
values ('page_token', uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()));

create function memory_tables_revision() returns integer
language sql immutable parallel safe as $$
  select 2
$$;

comment on function memory_tables_revision is 'which tables create_domain_memories_table makes; each change raises it';

-- Whoever makes, changes or drops the tables of a domain holds this lock until its transaction ends.
create function lock_memory_domain(domain text) returns void
language sql as $$
  select pg_advisory_xact_lock(hashtextextended('memory-service domain ' || domain, 0))
$$;

comment on function lock_memory_domain is 'only one transaction at a time makes, changes or drops the tables of a domain';

create or replace function create_domain_memories_table(domain text, dimensions integer default 768) returns void
language plpgsql as $$
declare
  known memory_domains;
begin
  if domain !~ '^[a-z][a-z0-9_-]{0,39}$' then
    raise exception 'domain name % is not allowed', quote_literal(domain)
      using errcode = 'invalid_parameter_value',
        hint = 'a lower-case letter, then at most 39 of a-z, 0-9, _ and -';
  end if;

  -- "if not exists" does not protect two callers at once from each other.
  perform lock_memory_domain(domain);

  insert into memory_domains (name, dimensions) values (domain, create_domain_memories_table.dimensions)
  on conflict (name) do nothing;
  select * into known from memory_domains where name = domain;

  -- Altering locks out everybody: not where nothing is to be altered.
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

-- embedding_version has no foreign key: its check would lock the one version row in every insert.
create function create_domain_tables(known memory_domains) returns void
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
  -- writes it, since a generated column cannot change its text search configuration without a rewrite of the
  -- table and all its indexes.
  execute format('alter table %s alter column text_vector drop expression if exists', memories);

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

comment on function create_domain_tables is 'makes the two tables of a domain, or adds the columns that older ones lack';

create function comment_domain_tables(domain text) returns void
language plpgsql as $$
declare
  memories text := format('%I', domain || '_memories');
  chunks text := format('%I', domain || '_chunks');
begin
  execute format('comment on table %s is %L', memories,
    format('memories of the domain %s; embedding is that of chunk 0', domain));
  execute format('comment on column %s.ttl is %L', memories, 'as the caller sent it; null where an expiry time was sent');
  execute format('comment on column %s.embed_after is %L', memories,
    'while pending: no worker takes it before (a lease, or back-off after a failure)');
  execute format('comment on column %s.text_vector is %L', memories,
    'words of the content, by the trigger memory_text_vector');
  execute format('comment on table %s is %L', chunks,
    format('chunks 1..n of long memories of the domain %s', domain));
  execute format('comment on column %s.start_offset is %L', chunks, 'in characters (code points) of the content, from 0');
end
$$;

comment on function comment_domain_tables is 'says in the catalogue what the tables and columns of a domain hold';

-- The trigger's argument is the text search configuration: another one takes a moment's lock that only writers
-- wait for, see create_domain_text_vector.
create function memory_set_text_vector() returns trigger
language plpgsql as $$
begin
  new.text_vector := memory_text_vector(tg_argv[0]::regconfig, new.content);
  return new;
end
$$;

comment on function memory_set_text_vector is 'indexes the words of a content as it is written';

-- Makes the trigger, unless it is there with the domain's text search configuration.
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
  'makes new contents of a domain be indexed by its text search configuration';

create function create_domain_text_index(domain text) returns void
language plpgsql as $$
begin
  perform create_domain_index(domain, '_memories_text_idx', format('%I', domain || '_memories'),
    'using gin (text_vector)', 'text search');
end
$$;

comment on function create_domain_text_index is 'makes the index that text search reads';

-- The lexemes of a question by all configurations that contents of the domain may be indexed by. Called in the
-- statement that searches, it cannot see another state of the catalogue than of the memories.
create function memory_domain_lexemes(domain text, query text) returns text[]
language sql stable parallel safe as $$
  select coalesce(array_agg(distinct lexeme order by lexeme), '{}')
  from memory_domains d,
    unnest(d.former_text_search_configs || d.text_search_config) as config,
    unnest(tsvector_to_array(to_tsvector(config::regconfig, query))) as lexeme
  where d.name = domain
$$;

comment on function memory_domain_lexemes is 'the lexemes of a question in a domain, in order, each once';

-- As memory_text_query(config, query), for a domain.
create function memory_domain_text_query(domain text, query text) returns tsquery
language sql stable parallel safe as $$
  select string_agg(
    '''' || replace(replace(lexeme, '\', '\\'), '''', '''''') || '''', ' | ' order by lexeme
  )::tsquery
  from unnest(memory_domain_lexemes(domain, query)) as lexeme
$$;

comment on function memory_domain_text_query is 'the lexemes of a question in a domain, any of which may match';

-- Every index says which query it serves.
create function create_domain_indexes(domain text) returns void
language plpgsql as $$
declare
  memories text := format('%I', domain || '_memories');
  updated_index text := format('%I', domain || '_memories_updated_idx');
begin
  -- Of the first revision, without the id.
  if exists (select from pg_index where indexrelid = to_regclass(updated_index) and indnkeyatts = 1) then
    execute format('drop index %s', updated_index);
  end if;
  perform create_domain_index(domain, '_memories_metadata_idx', memories, 'using gin (metadata)',
    'filters on source, importance, tags and metadata');
  perform create_domain_index(domain, '_memories_created_idx', memories, '(created_at desc, id desc)',
    'pages by create time');
  perform create_domain_index(domain, '_memories_updated_idx', memories, '(updated_at desc, id desc)',
    'pages by update time, the last write');
  perform create_domain_index(domain, '_memories_pending_idx', memories,
    '(embed_after) where embedding_state = ''pending''', 'what the embedding worker takes next');
  perform create_domain_index(domain, '_memories_failed_idx', memories,
    '(id) where embedding_state = ''failed''', 'failed memories, to count and to try again');
  perform create_domain_index(domain, '_memories_version_idx', memories, '(embedding_version)',
    'memories of an older embedding version');
  perform create_domain_index(domain, '_memories_expires_idx', memories, '(expires_at) where expires_at is not null',
    'what the sweeper removes next');
end
$$;

comment on function create_domain_indexes is 'makes the indexes of a domain that are neither text nor vector index';

-- Expired memories count too until they are swept: whoever stores the content again removes such a one.
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
  execute format('comment on index %s is %L', index_name, 'each content once');
end
$$;

comment on function create_domain_content_index is 'lets a domain that deduplicates hold each content once';

create or replace function set_domain_embedding_storage(domain text, dimensions integer) returns void
language plpgsql as $$
declare
  base text;
begin
  foreach base in array array['_memories', '_chunks'] loop
    -- Altering locks out everybody: only where it changes something.
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
        'using hnsw (embedding vector_cosine_ops)', 'semantic search (cosine distance)');
    end if;
  end loop;
end
$$;

-- Drops the tables of a domain and forgets it; returns how many memories it had that had not expired, or null if
-- there was no such domain.
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
    -- In the order in which searches and writes take them: the other way round they would deadlock.
    execute format('lock table %s in access exclusive mode', memories);
    execute format('select count(*) from %s where expires_at is null or expires_at > now()', memories) into alive;
  end if;
  execute format('drop table if exists %s, %s', memories, chunks);
  delete from memory_domains where name = domain;
  return alive;
end
$$;

comment on function drop_domain_memories_table is
  'deletes a domain and all its memories; returns how many, null if there was no such domain';
