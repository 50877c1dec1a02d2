-- The same weights can embed differently in another version of the model server: what a fixed text became tells.

alter table memory_embedding_versions
  add column probe vector,
  drop constraint memory_embedding_versions_model_digest_dimensions_profile_c_key;

comment on column memory_embedding_versions.probe is
  'the embedding of a fixed text; null until an engine has told it. Versions may differ in nothing else';
