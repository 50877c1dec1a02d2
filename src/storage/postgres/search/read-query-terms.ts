import type { Queryable, QueryOptions } from "../../database/database.ts";

/** Returns the distinct lexemes of words in the domain's configuration, in alphabetical order; none if the domain does not exist. */
export async function readQueryTerms(
  database: Queryable,
  domain: string,
  words: string,
  options?: QueryOptions,
): Promise<string[]> {
  const rows = await database.query<{ lexeme: string }>(
    {
      name: "read_query_terms",
      text: `select lexeme from memory_domain_lexemes($1, $2) order by lexeme collate "C"`,
    },
    [domain, words],
    options,
  );
  return rows.map(({ lexeme }) => lexeme);
}
