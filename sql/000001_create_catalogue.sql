-- The catalogue: the domains of this database, the versions of their embeddings, and the keys that servers share.

create extension if not exists vector;

create table memory_embedding_versions (
  version integer generated always as identity primary key,
  model text not null,
  digest text not null,
  dimensions integer not null check (dimensions between 1 and 16000),
  profile text not null,
  chunker integer not null,
  created_at timestamptz not null default now(),
  probe vector
);

comment on table memory_embedding_versions is
  'Versions of embeddings: what computed them. Embeddings of different versions are never compared.';
comment on column memory_embedding_versions.digest is 'digest of the model''s weights; empty if it is unknown';
comment on column memory_embedding_versions.profile is 'name and revision of the model''s profile, for example nomic/1';
comment on column memory_embedding_versions.chunker is 'revision of the rules that split long texts into chunks';
-- The same weights can produce other embeddings in another version of the model server. The probe detects that.
comment on column memory_embedding_versions.probe is
  'embedding of a fixed text; null until the embedder has computed it. Two versions may differ in the probe alone';

create table memory_domains (
  name text primary key check (name ~ '^[a-z][a-z0-9_-]{0,39}$'),
  dimensions integer check (dimensions between 1 and 16000),
  embedding_version integer references memory_embedding_versions,
  text_search_config text not null default 'english',
  created_at timestamptz not null default now(),
  id bigint generated always as identity unique,
  description text not null default '' check (char_length(description) <= 1024),
  deduplicate_content boolean not null default false,
  embedding_model text check (embedding_model <> ''),
  requested_dimensions integer check (requested_dimensions between 1 and 2000),
  former_text_search_configs text[] not null default '{}',
  text_reindexed_to text,
  tables_revision integer not null default 0
);

comment on table memory_domains is
  'One row for each domain. The tables {name}_memories and {name}_chunks contain its memories.';
comment on column memory_domains.dimensions is
  'dimensions of the embedding columns; null until those of the model are known';
comment on column memory_domains.embedding_version is
  'embedding version that searches use; memories of another version are re-embedded';
comment on column memory_domains.text_search_config is 'text search configuration that indexes new contents';
comment on column memory_domains.id is
  'distinguishes the domain from an earlier one of the same name; page tokens are bound to it';
comment on column memory_domains.deduplicate_content is
  'whether the domain stores each content only once; never changes';
comment on column memory_domains.embedding_model is 'null: the default model of the server, even if that changes';
comment on column memory_domains.requested_dimensions is 'dimensions requested at creation; null: those of the model';
comment on column memory_domains.former_text_search_configs is
  'during a reindex: configurations that may still have indexed some of the contents';
comment on column memory_domains.text_reindexed_to is
  'during a reindex: the greatest memory id that is already reindexed; null if there is none yet';
comment on column memory_domains.tables_revision is
  'value of memory_tables_revision() when the tables were last created or upgraded; 0: not created yet';

create table memory_secrets (
  name text primary key,
  secret bytea not null,
  created_at timestamptz not null default now()
);

comment on table memory_secrets is
  'Keys that all servers of this database share. The key page_token authenticates page tokens.';

-- Two random UUIDs have 244 random bits.
insert into memory_secrets (name, secret)
values ('page_token', uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()));
