-- Small functions that both the tables of domains and the server's statements use.

create function memory_content_hash(content text) returns bytea
language sql immutable parallel safe as $$
  select sha256(convert_to(content, 'UTF8'))
$$;

comment on function memory_content_hash is 'Returns the SHA-256 hash of a content in UTF-8.';

-- The server exchanges times as microseconds since 1970. A JavaScript Date would truncate them to milliseconds, and
-- keyset paging would then skip rows. memory_time adds whole seconds and the remainder separately, because
-- PostgreSQL multiplies an interval by a double, which cannot represent every microsecond.
create function memory_time(microseconds bigint) returns timestamptz
language sql immutable parallel safe as $$
  select timestamptz 'epoch' + (microseconds / 1000000) * interval '1 second'
    + (microseconds % 1000000) * interval '1 microsecond'
$$;

create function memory_microseconds(moment timestamptz) returns bigint
language sql immutable parallel safe as $$
  select (extract(epoch from moment) * 1000000)::bigint
$$;

comment on function memory_time is 'Returns the time that is this many microseconds after 1970-01-01T00:00:00Z.';
comment on function memory_microseconds is 'Returns a time as microseconds since 1970-01-01T00:00:00Z.';

create function lock_memory_domain(domain text) returns void
language sql as $$
  select pg_advisory_xact_lock(hashtextextended('memory-service domain ' || domain, 0))
$$;

comment on function lock_memory_domain is
  'Locks a domain until the transaction ends: only one transaction at a time creates, changes or drops its tables.';
