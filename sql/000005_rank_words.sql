-- Words: what of a content is indexed, and the BM25 index that ranks them where pg_textsearch is there.

-- Applied to contents and questions alike. Compatibility forms become one (ＡＢＣ, ﬁ, é in two characters), Latin
-- letters lose their accents (José is found by Jose), and punctuation beyond ASCII separates words.
create function memory_fold_text(content text) returns text
language plpgsql immutable parallel safe as $$
declare
  folded text;
begin
  if octet_length(content) = char_length(content) or getdatabaseencoding() <> 'UTF8' then
    return content;
  end if;
  folded := regexp_replace(normalize(content, nfkd), '([A-Za-z])[\u0300-\u036f]+', '\1', 'g');
  return regexp_replace(normalize(folded, nfc),
    '[\u00a0-\u00bf\u02b0-\u02ff\u2000-\u206f\u2190-\u2bff\u3000-\u303f\u30fb\ufe10-\ufe6f]+', ' ', 'g');
end
$$;

comment on function memory_fold_text is 'one form of what people write in several';

-- The parser of text search would keep example.com, a/b.txt and 5-10 as words of their own, or lose them: <b> and
-- List<String> are tags to it. With all punctuation gone their parts are words. U.S. is the word US, as people write it
-- both ways (on CISI: nDCG@10 .398 instead of .394). Scripts written without spaces: every character is a word.
create function memory_words(folded text) returns text
language plpgsql immutable parallel safe as $$
declare
  words text;
begin
  words := regexp_replace(folded, '\m([A-Za-z])\.(?=[A-Za-z]\M)', '\1', 'g');
  words := regexp_replace(words, '[!-/:-@[-`{-~]+', ' ', 'g');
  if octet_length(words) > char_length(words) then
    words := regexp_replace(words, '([\u2e80-\u2fdf\u3041-\u30fa\u30fc-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff])',
      ' \1 ', 'g');
  end if;
  return words;
end
$$;

comment on function memory_words is 'the words of a folded text, in their order, and nothing else';

-- What would be lost with its punctuation: 10.0.0.1, E-1234, ERR_SSL_PROTOCOL, a@b.org, src/main.ts are one more word
-- each, with q for every separator. Not all that has a point or a hyphen: e.g and well-known are worse for having it
-- (on CISI: nDCG@10 .381 instead of .394).
create function memory_exact_words(folded text) returns text
language sql immutable parallel safe as $$
  select string_agg(regexp_replace(word, '[_./:@\\-]', 'q', 'g'), ' ')
  from (
    select btrim(part, '_./:@\-') as word
    from string_to_table(regexp_replace(folded, '[\s!-,;-?[\]^`{-~]+', ' ', 'g'), ' ') as part
    where part ~ '[0-9_@/:\\]' and part ~ '[_./:@\\-]'
  ) as parts
  where char_length(word) between 3 and 100 and word ~ '[_./:@\\-]'
$$;

comment on function memory_exact_words is 'a word for each identifier that has separators in it';

-- Overlapping pairs of characters in scripts written without spaces: nearly as good as words, and no dictionary.
create function memory_pairs(folded text) returns text
language plpgsql immutable parallel safe as $$
declare
  unspaced constant text := '[\u2e80-\u2fdf\u3041-\u30fa\u30fc-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff]';
  runs text;
begin
  if octet_length(folded) = char_length(folded) or folded !~ unspaced then
    return '';
  end if;
  runs := regexp_replace(folded, '[^' || substr(unspaced, 2) || '+', ' ', 'g');
  -- Those that begin at an even place, and those at an odd one.
  return regexp_replace(runs, '(' || unspaced || unspaced || ')', '\1 ', 'g') || ' ' ||
    regexp_replace(regexp_replace(runs, '( |^)' || unspaced, ' ', 'g'), '(' || unspaced || unspaced || ')', '\1 ', 'g');
end
$$;

comment on function memory_pairs is 'pairs of neighbouring characters in scripts written without spaces';

create function memory_search_text(content text) returns text
language sql immutable parallel safe as $$
  select concat_ws(' ', memory_words(folded), memory_exact_words(folded), memory_pairs(folded))
  from memory_fold_text(content) as folded
$$;

comment on function memory_search_text is 'all words by which a content can be found, for to_tsvector';

-- As before, of all words by which the content can be found.
create or replace function memory_text_vector(config regconfig, content text) returns tsvector
language plpgsql immutable as $$
declare
  part text := content;
begin
  if octet_length(content) <= 65536 then
    return to_tsvector(config, memory_search_text(content));
  end if;
  loop
    begin
      return to_tsvector(config, memory_search_text(part));
    exception when program_limit_exceeded then
      part := left(part, length(part) / 2);
    end;
  end loop;
end
$$;

-- The lexemes of a question by all configurations that contents of the domain may be indexed by, and how often each
-- occurs in it: who names a thing twice means it (on CISI: nDCG@10 .404 instead of .333).
drop function memory_domain_text_query(text, text);
drop function memory_domain_lexemes(text, text);
drop function memory_text_query(regconfig, text);

create function memory_domain_lexemes(domain text, query text) returns table (lexeme text, occurrences integer)
language sql stable parallel safe as $$
  select words.lexeme, max(cardinality(words.positions))
  from memory_domains d,
    unnest(d.former_text_search_configs || d.text_search_config) as config,
    unnest(to_tsvector(config::regconfig, memory_search_text(query))) as words
  where d.name = domain
  group by words.lexeme
$$;

comment on function memory_domain_lexemes is 'the lexemes of a question in a domain, and how often each occurs';

-- What quotes and -word ask for, as one condition: null if there is nothing to check, as for a phrase of stop words.
create function memory_domain_condition(domain text, required text[], excluded text[]) returns tsquery
language sql stable parallel safe as $$
  select string_agg(part, ' & ')::tsquery
  from (
    select case when is_required then '' else '!' end || '(' || string_agg(phrase::text, ' | ') || ')' as part
    from memory_domains d,
      unnest(d.former_text_search_configs || d.text_search_config) as config,
      (
        select true, text from unnest(required) as text
        union all
        select false, text from unnest(excluded) as text
      ) as wanted (is_required, text),
      phraseto_tsquery(config::regconfig, memory_words(memory_fold_text(wanted.text))) as phrase
    where d.name = domain and numnode(phrase) > 0
    group by is_required, wanted.text
  ) as parts
$$;

comment on function memory_domain_condition is 'the phrases that must stand in a content, and those that must not';

-- Null if there are none.
create function memory_lexeme_query(lexemes text[]) returns tsquery
language sql immutable parallel safe as $$
  select string_agg('''' || replace(replace(lexeme, '\', '\\'), '''', '''''') || '''', ' | ')::tsquery
  from unnest(lexemes) as lexeme
$$;

comment on function memory_lexeme_query is 'any of these lexemes';

-- What BM25 in SQL must know beforehand. Never written by who stores a memory: all would wait for the same rows.
create table memory_text_statistics (
  domain_id bigint primary key references memory_domains (id) on delete cascade,
  memories bigint not null check (memories > 0),
  average_length double precision not null,
  pages bigint not null,
  refreshed_at timestamptz not null default now()
);

comment on table memory_text_statistics is
  'Domains that BM25 in SQL ranks by statistics, which may lag; without a row everything is counted in each search.';
comment on column memory_text_statistics.average_length is 'different lexemes of a memory';
comment on column memory_text_statistics.pages is 'of the table then, to notice that it has grown';

create table memory_lexeme_statistics (
  domain_id bigint not null references memory_text_statistics on delete cascade,
  lexeme text not null,
  share real not null check (share > 0),
  primary key (domain_id, lexeme)
);

comment on table memory_lexeme_statistics is
  'Share of the memories of a domain that have a lexeme, if it is frequent; the others are counted in each search.';

-- From a sample of about 50,000 memories (0.2 s at 30 words each). Kept is what one in 2,000 has, and 20 memories: a
-- few thousand lexemes. False if another server is at it.
create function refresh_memory_text_statistics(domain text) returns boolean
language plpgsql as $$
declare
  memories text := format('%I', domain || '_memories');
  known memory_domains;
  counted bigint;
  sampled bigint;
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
  execute format('select count(*) from %s', source) into sampled;
  delete from memory_text_statistics where domain_id = known.id;
  if sampled = 0 then
    return true;
  end if;
  insert into memory_text_statistics (domain_id, memories, average_length, pages)
  values (known.id, counted, 0, pg_relation_size(to_regclass(memories)) / 8192);
  with words as materialized (
    select word, ndoc from ts_stat(format('select text_vector from %s', source))
  ), kept as (
    insert into memory_lexeme_statistics (domain_id, lexeme, share)
    select known.id, word, ndoc::float8 / sampled
    from words
    where ndoc >= sampled / 2000.0 and ndoc::float8 / sampled * counted >= 20
  )
  update memory_text_statistics s set average_length = (select coalesce(sum(ndoc), 0) from words)::float8 / sampled
  where s.domain_id = known.id;
  return true;
end
$$;

comment on function refresh_memory_text_statistics is 'counts the frequent lexemes of a domain anew';

-- The BM25 index reads lexemes, as often as they occur: it then follows text_vector, whatever made that.
create function memory_lexeme_text(words tsvector) returns text
language sql immutable parallel safe cost 10000 as $$
  select coalesce(string_agg(repeat(lexeme || ' ', cardinality(positions)), ''), '') from unnest(words)
$$;

comment on function memory_lexeme_text is 'the lexemes of a text vector, each as often as it occurs, for the BM25 index';

-- Not "create extension if not exists" at once: who may not create it needs no error if nobody can.
create function memory_use_bm25_index() returns boolean
language plpgsql as $$
begin
  if to_regprocedure('to_bm25query(text, text)') is null
    and exists (select from pg_available_extensions where name = 'pg_textsearch' and installed_version is null)
  then
    begin
      create extension if not exists pg_textsearch;
    exception when others then
      -- Not allowed, or not in shared_preload_libraries: BM25 in SQL ranks instead.
      null;
    end;
  end if;
  return to_regprocedure('to_bm25query(text, text)') is not null;
end
$$;

comment on function memory_use_bm25_index is
  'whether the extension pg_textsearch can be used; creates it where it is available';

-- k1 and b are the best of those tried on Cranfield, CISI and LoCoMo (nDCG@10 .393, .398, .499; with 1.2 and .75 .389,
-- .396, .494; with .9 and .4 .377, .376, .510).
create or replace function create_domain_text_index(domain text) returns void
language plpgsql as $$
declare
  memories text := format('%I', domain || '_memories');
begin
  perform create_domain_index(domain, '_memories_text_idx', memories, 'using gin (text_vector)',
    'text search: words, phrases, excluded words');
  -- What is there was indexed by the words of an older revision: the background indexes it anew.
  execute format('update memory_domains
    set former_text_search_configs = case former_text_search_configs
        when ''{}'' then array[text_search_config] else former_text_search_configs end,
      text_reindexed_to = null
    where name = %L and tables_revision < 3 and exists (select from %s)', domain, memories);
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

comment on function create_domain_text_index is 'makes the indexes that text search reads';

create function lacks_bm25_index(domain text) returns boolean
language sql stable as $$
  select to_regprocedure('to_bm25query(text, text)') is not null
    and to_regclass(format('%I', domain || '_memories_bm25_idx')) is null
$$;

comment on function lacks_bm25_index is 'whether create_domain_memories_table would make the BM25 index of a domain';

create or replace function memory_tables_revision() returns integer
language sql immutable parallel safe as $$
  select 3
$$;

select memory_use_bm25_index();
