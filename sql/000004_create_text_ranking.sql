-- BM25, which ranks full-text search: by the index of the extension pg_textsearch where it is available, otherwise in
-- SQL with the statistics below.

-- Storing a memory never updates the statistics: every writer would wait for the same rows.
create table memory_text_statistics (
  domain_id bigint primary key references memory_domains (id) on delete cascade,
  memories bigint not null check (memories > 0),
  average_length double precision not null,
  pages bigint not null,
  refreshed_at timestamptz not null default now()
);

comment on table memory_text_statistics is
  'Statistics for BM25 in SQL, which may be out of date. For a domain without a row, each search counts everything.';
comment on column memory_text_statistics.average_length is
  'average number of different lexemes in a memory; a memory with fewer than 20 counts as 20';
comment on column memory_text_statistics.pages is
  'size of the table when it was counted, which shows how much it has grown';

create table memory_lexeme_statistics (
  domain_id bigint not null references memory_text_statistics on delete cascade,
  lexeme text not null,
  share real not null check (share > 0),
  primary key (domain_id, lexeme)
);

comment on table memory_lexeme_statistics is
  'Fraction of a domain''s memories that contain a lexeme, for frequent lexemes. Each search counts the other lexemes.';

-- Counts a sample of about 50,000 memories (0.2 s if they have 30 words each). It keeps the lexemes that occur in at
-- least one of 2,000 memories and in at least 20 memories, which are a few thousand.
create function refresh_memory_text_statistics(domain text) returns boolean
language plpgsql as $$
declare
  memories text := format('%I', domain || '_memories');
  known memory_domains;
  counted bigint;
  sampled bigint;
  length_of_all float8;
  source text;
begin
  if not pg_try_advisory_xact_lock(hashtextextended('memory-service text statistics ' || domain, 0)) then
    return false;
  end if;
  select * into known from memory_domains where name = domain;
  if known.name is null then
    return false;
  end if;
  execute format('select count(*) from %s', memories) into counted;
  -- "repeatable" makes both statements read the same pages.
  source := format('%s tablesample system (%s) repeatable (1)', memories, least(100, 5e6 / greatest(counted, 1)));
  execute format('select count(*), sum(greatest(length(text_vector), 20)) from %s', source)
    into sampled, length_of_all;
  delete from memory_text_statistics where domain_id = known.id;
  if sampled = 0 then
    return true;
  end if;
  insert into memory_text_statistics (domain_id, memories, average_length, pages)
  values (known.id, counted, coalesce(length_of_all, 0) / sampled, pg_relation_size(to_regclass(memories)) / 8192);
  insert into memory_lexeme_statistics (domain_id, lexeme, share)
  select known.id, word, ndoc::float8 / sampled
  from ts_stat(format('select text_vector from %s', source))
  where ndoc >= sampled / 2000.0 and ndoc::float8 / sampled * counted >= 20;
  return true;
end
$$;

comment on function refresh_memory_text_statistics is
  'Recounts the frequent lexemes of a domain. Returns false if there is no such domain or another server is counting.';

-- The BM25 index reads lexemes instead of contents, so it always agrees with text_vector.
--
-- BM25 prefers the shorter of two texts in which a word occurs equally often. That is right for abstracts. In a
-- conversation it would rank "Thanks, Caroline!" above what Caroline said. A text of fewer than 20 words therefore
-- counts as one of 20 (nDCG@10 on turns of LoCoMo, 15 words each: .514 instead of .498; abstracts are longer and not
-- affected). The padding is a word that no content and no query contains, because memory_words removes points between
-- digits.
create function memory_lexeme_text(words tsvector) returns text
language sql immutable parallel safe cost 10000 as $$
  select coalesce(string_agg(repeat(lexeme || ' ', cardinality(positions)), ''), '') ||
    repeat('0.0.0 ', 20 - coalesce(sum(cardinality(positions)), 0)::integer)
  from unnest(words)
$$;

comment on function memory_lexeme_text is
  'Returns the lexemes of a tsvector, each as often as it occurs, padded to 20 words, as input for the BM25 index.';

-- A plain "create extension if not exists" would fail on servers that lack the extension or do not permit it.
create function memory_use_bm25_index() returns boolean
language plpgsql as $$
begin
  if to_regprocedure('to_bm25query(text, text)') is null
    and exists (select from pg_available_extensions where name = 'pg_textsearch' and installed_version is null)
  then
    begin
      create extension if not exists pg_textsearch;
    exception when others then
      -- Not permitted, or missing from shared_preload_libraries: BM25 in SQL ranks instead.
      null;
    end;
  end if;
  return to_regprocedure('to_bm25query(text, text)') is not null;
end
$$;

comment on function memory_use_bm25_index is
  'Returns whether the extension pg_textsearch is usable; creates it first if the server has it.';

create function lacks_bm25_index(domain text) returns boolean
language sql stable as $$
  select to_regprocedure('to_bm25query(text, text)') is not null
    and to_regclass(format('%I', domain || '_memories_bm25_idx')) is null
$$;

comment on function lacks_bm25_index is
  'Returns whether a domain has no BM25 index although create_domain_text_index could create it.';

select memory_use_bm25_index();
