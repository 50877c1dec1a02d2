import type { SearchIndex } from "../../memory/model/search-index.ts";
import type { Database } from "../database/database.ts";
import type { DomainCache } from "./domain-cache.ts";
import { createDomainSizes } from "./domains/domain-size.ts";
import { fetchMemories } from "./search/fetch-memories.ts";
import { readAgeAndImportance } from "./search/read-age-and-importance.ts";
import { readHitEmbeddings } from "./search/read-hit-embeddings.ts";
import { readQueryTerms } from "./search/read-query-terms.ts";
import { searchSemantic } from "./search/search-semantic.ts";
import { createTextSearch } from "./search/search-text.ts";

export function createSearchIndex(database: Database, { translateDomainErrors }: DomainCache): SearchIndex {
  const sizeOf = createDomainSizes(database);
  const textSearch = createTextSearch(database);
  return {
    async searchSemantic(domain, query, signal) {
      return await translateDomainErrors(domain, searchSemantic(database, domain, query, sizeOf, { signal }));
    },

    async searchText(domain, query, signal) {
      return await translateDomainErrors(domain, textSearch.find(domain, query, { signal }));
    },

    async readQueryTerms(domain, words, signal) {
      return await readQueryTerms(database, domain, words, { signal });
    },

    async readAgeAndImportance(domain, ids, signal) {
      return await translateDomainErrors(domain, readAgeAndImportance(database, domain, ids, { signal }));
    },

    async readHitEmbeddings(domain, hits, signal) {
      return await translateDomainErrors(domain, readHitEmbeddings(database, domain, hits, { signal }));
    },

    async fetch(domain, hits, options, signal) {
      return await translateDomainErrors(domain, fetchMemories(database, domain, hits, options, { signal }));
    },
  };
}
