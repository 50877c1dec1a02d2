-- BM25 prefers the shorter of two texts that have a word equally often. Among abstracts that is right; among turns of
-- a talk it puts "Thanks, Caroline!" before what Caroline told. A text of fewer than 20 words therefore counts as one
-- of 20 (on turns of LoCoMo, 15 words each: nDCG@10 .514 instead of .498; abstracts are longer, and rank as before).

-- The padding is a word that no content has and no question asks for: memory_words leaves no point between digits.
create or replace function memory_lexeme_text(words tsvector) returns text
language sql immutable parallel safe cost 10000 as $$
  select coalesce(string_agg(repeat(lexeme || ' ', cardinality(positions)), ''), '') ||
    repeat('0.0.0 ', 20 - coalesce(sum(cardinality(positions)), 0)::integer)
  from unnest(words)
$$;

comment on function memory_lexeme_text is
  'the lexemes of a text vector, each as often as it occurs, and padding up to 20 words, for the BM25 index';

-- As before, and of lengths that are at least 20.
create or replace function refresh_memory_text_statistics(domain text) returns boolean
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
  -- Pages are drawn, the same for both statements.
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

comment on column memory_text_statistics.average_length is 'different lexemes of a memory, at least 20 each';

-- Counted anew within seconds of the next start.
update memory_text_statistics set pages = 0;

-- As before; a BM25 index of unpadded texts is made anew.
create or replace function create_domain_text_index(domain text) returns void
language plpgsql as $$
declare
  memories text := format('%I', domain || '_memories');
  revision integer := (select tables_revision from memory_domains where name = domain);
begin
  perform create_domain_index(domain, '_memories_text_idx', memories, 'using gin (text_vector)',
    'text search: words, phrases, excluded words');
  if revision < 3 then
    -- What is there was indexed by the words of an older revision: the background indexes it anew.
    execute format('update memory_domains
      set former_text_search_configs = case former_text_search_configs
          when ''{}'' then array[text_search_config] else former_text_search_configs end,
        text_reindexed_to = null
      where name = %L and exists (select from %s)', domain, memories);
  end if;
  if revision < 5 then
    execute format('drop index if exists %I', domain || '_memories_bm25_idx');
  end if;
  if memory_use_bm25_index() then
    begin
      perform create_domain_index(domain, '_memories_bm25_idx', memories,
        'using bm25 (memory_lexeme_text(text_vector)) with (text_config = ''pg_catalog.simple'', k1 = 1.5, b = 0.6)',
        'text search: order by BM25');
    exception when others then
      -- It only makes searches faster: no reason to have no domain.
      raise warning 'the domain % has no BM25 index: %', domain, sqlerrm;
    end;
  end if;
end
$$;

create or replace function memory_tables_revision() returns integer
language sql immutable parallel safe as $$
  select 5
$$;
