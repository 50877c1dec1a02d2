-- Full-text search: which words of a content are indexed, and how queries become conditions.

-- Applied to contents and queries alike. It unifies compatibility forms (ＡＢＣ, ﬁ, é as two code points), removes
-- accents from Latin letters ("Jose" finds "José"), and replaces punctuation beyond ASCII by spaces.
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

comment on function memory_fold_text is 'Reduces different spellings of the same text to one.';

-- PostgreSQL's parser would index example.com, a/b.txt and 5-10 as single words, and would discard <b> and
-- List<String> as tags. Without punctuation, each of their parts is a word. U.S. becomes US, because people write both
-- (nDCG@10 on CISI: .398 instead of .394). In scripts without spaces, every character becomes a word.
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

comment on function memory_words is 'Returns the words of a folded text in their order, without punctuation.';

-- memory_words splits identifiers such as 10.0.0.1, E-1234, ERR_SSL_PROTOCOL, a@b.org and src/main.ts. This function
-- adds each of them as one more word, with q in place of every separator. It ignores words such as e.g and well-known,
-- which have only a point or a hyphen: adding these makes results worse (nDCG@10 on CISI: .381 instead of .394).
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

comment on function memory_exact_words is 'Returns one word for each identifier that contains separators.';

-- In scripts without spaces, overlapping pairs of characters work almost as well as words and need no dictionary.
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
  -- First the pairs that begin at an even position, then those that begin at an odd one.
  return regexp_replace(runs, '(' || unspaced || unspaced || ')', '\1 ', 'g') || ' ' ||
    regexp_replace(regexp_replace(runs, '( |^)' || unspaced, ' ', 'g'), '(' || unspaced || unspaced || ')', '\1 ', 'g');
end
$$;

comment on function memory_pairs is 'Returns all pairs of neighbouring characters in scripts without spaces.';

create function memory_search_text(content text) returns text
language sql immutable parallel safe as $$
  select concat_ws(' ', memory_words(folded), memory_exact_words(folded), memory_pairs(folded))
  from memory_fold_text(content) as folded
$$;

comment on function memory_search_text is 'Returns all words that find a content, as input for to_tsvector.';

-- A tsvector holds at most 1 MB of lexemes and positions. If a text needs more, this function halves it until it
-- fits. The exception block costs a subtransaction and makes the function parallel unsafe, so only texts that might be
-- too long enter it.
create function memory_text_vector(config regconfig, content text) returns tsvector
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

comment on function memory_text_vector is
  'Returns the tsvector of a content; if the content is too long for one, that of its beginning.';

-- A trigger computes these columns because generated columns have two disadvantages: changing the text search
-- configuration would rewrite the table and all of its indexes, and adding such a column to an existing table (see
-- "memory-service adopt") would rewrite it under an exclusive lock. The trigger's argument is the configuration.
create function memory_set_text_vector() returns trigger
language plpgsql as $$
begin
  new.content_hash := memory_content_hash(new.content);
  new.text_vector := memory_text_vector(tg_argv[0]::regconfig, new.content);
  return new;
end
$$;

comment on function memory_set_text_vector is 'Sets the hash and the tsvector of a content when it is written.';

-- Uses every configuration that may have indexed contents of the domain. Because the function runs within the
-- statement that searches, it sees the same state of the catalogue and of the memories. Occurrences count because a
-- user who repeats a word considers it important (nDCG@10 on CISI: .404 instead of .333).
create function memory_domain_lexemes(domain text, query text) returns table (lexeme text, occurrences integer)
language sql stable parallel safe as $$
  select words.lexeme, max(cardinality(words.positions))
  from memory_domains d,
    unnest(d.former_text_search_configs || d.text_search_config) as config,
    unnest(to_tsvector(config::regconfig, memory_search_text(query))) as words
  where d.name = domain
  group by words.lexeme
$$;

comment on function memory_domain_lexemes is 'Returns the lexemes of a query in a domain and how often each occurs.';

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

comment on function memory_domain_condition is
  'Returns a condition for the phrases that a content must and must not contain; null if all of them are stop words.';

create function memory_lexeme_query(lexemes text[]) returns tsquery
language sql immutable parallel safe as $$
  select string_agg('''' || replace(replace(lexeme, '\', '\\'), '''', '''''') || '''', ' | ')::tsquery
  from unnest(lexemes) as lexeme
$$;

comment on function memory_lexeme_query is 'Returns a tsquery that matches any of the lexemes; null if there are none.';
