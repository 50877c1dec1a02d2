-- What every domain refers to: which domains there are, and what made their embeddings.

create extension if not exists vector;

create table memory_embedding_versions (
  version integer generated always as identity primary key,
  model text not null,
  digest text not null,
  dimensions integer not null check (dimensions between 1 and 16000),
  profile text not null,
  chunker integer not null,
  created_at timestamptz not null default now(),
  unique (model, digest, dimensions, profile, chunker)
);

comment on table memory_embedding_versions is
  'What made an embedding. Embeddings of two versions are never compared.';
comment on column memory_embedding_versions.digest is 'digest of the model''s weights, empty where unknown';
comment on column memory_embedding_versions.profile is 'prompt profile with its revision, as nomic/1';
comment on column memory_embedding_versions.chunker is 'revision of the rules that cut long texts';

create table memory_domains (
  name text primary key check (name ~ '^[a-z][a-z0-9_-]{0,39}$'),
  dimensions integer check (dimensions between 1 and 16000),
  embedding_version integer references memory_embedding_versions,
  text_search_config text not null default 'english',
  created_at timestamptz not null default now()
);

comment on table memory_domains is 'One row for each domain; its memories are in {name}_memories and {name}_chunks.';
comment on column memory_domains.dimensions is 'of the embedding columns; null until the model''s are known';
comment on column memory_domains.embedding_version is
  'the version searches use; memories of another version are embedded again';
comment on column memory_domains.text_search_config is 'fixed when the tables are made: text vectors are generated with it';
