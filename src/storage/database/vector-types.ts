import { registerTypes } from "pgvector/pg";
import type { Queryable } from "./database.ts";
import { type TextParser, textParserOf } from "./wire-values.ts";

/**
 * Parsers for the text form of one database's types. The types of pgvector have different oids in every database, so
 * values of type `vector` and `halfvec` remain text until `register` has looked the oids up.
 */
export class VectorTypes {
  readonly #parsers = new Map<number, TextParser>();

  parserOf(oid: number): TextParser {
    return this.#parsers.get(oid) ?? textParserOf(oid);
  }

  /** @throws Error if the extension does not exist in the database. */
  async register(database: Queryable): Promise<void> {
    // pgvector registers types with a client of node-postgres. This adapter has the two methods that it calls, so the
    // registration holds for every connection of a pool and for the embedded engine as well.
    const client = {
      query: async (text: string, values: readonly string[]) => ({
        rows: await database.query({ text }, values),
      }),
      setTypeParser: (oid: number, _format: "text", parse: TextParser) => void this.#parsers.set(oid, parse),
    };
    await registerTypes(client as unknown as Parameters<typeof registerTypes>[0]);
  }
}
