-- Functions that the domain tables and the searches are built on.

-- A text vector may hold 1 MB of lexemes and positions: of a text that overflows it, the longest leading part
-- that fits (by halving) is indexed. The exception block is entered only for texts that might overflow, since
-- it costs a subtransaction (and is why the function is not parallel safe).
create function memory_text_vector(config regconfig, content text) returns tsvector
language plpgsql immutable as $$
declare
  part text := content;
begin
  if octet_length(content) <= 65536 then
    return to_tsvector(config, content);
  end if;
  loop
    begin
      return to_tsvector(config, part);
    exception when program_limit_exceeded then
      part := left(part, length(part) / 2);
    end;
  end loop;
end
$$;

comment on function memory_text_vector is 'to_tsvector that indexes the first part of a text too long for it';

create function memory_content_hash(content text) returns bytea
language sql immutable parallel safe as $$
  select sha256(convert_to(content, 'UTF8'))
$$;

comment on function memory_content_hash is 'SHA-256 of the content in UTF-8';

-- OR over the lexemes of a question: with AND, nine natural questions in ten find nothing. Null when the
-- question has no lexeme (only stop words or punctuation).
create function memory_text_query(config regconfig, query text) returns tsquery
language sql stable parallel safe as $$
  select string_agg(
    '''' || replace(replace(lexeme, '\', '\\'), '''', '''''') || '''', ' | ' order by lexeme
  )::tsquery
  from unnest(tsvector_to_array(to_tsvector(config, query))) as lexeme
$$;

comment on function memory_text_query is 'the lexemes of a question, any of which may match';

-- Times cross the border as microseconds since 1970: a driver's Date would cut them to milliseconds, and keyset
-- paging would then lose rows. Whole seconds and the rest apart, since the product with an interval is a double.
create function memory_time(microseconds bigint) returns timestamptz
language sql immutable parallel safe as $$
  select timestamptz 'epoch' + (microseconds / 1000000) * interval '1 second'
    + (microseconds % 1000000) * interval '1 microsecond'
$$;

create function memory_microseconds(moment timestamptz) returns bigint
language sql immutable parallel safe as $$
  select (extract(epoch from moment) * 1000000)::bigint
$$;

comment on function memory_time is 'the time this many microseconds after 1970-01-01T00:00:00Z';
comment on function memory_microseconds is 'microseconds since 1970-01-01T00:00:00Z';
