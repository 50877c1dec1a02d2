import { IfExists } from "memory-service-client/memoryservice/v1/memory_service_pb.js";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Database } from "../../src/storage/database/database.ts";
import { at } from "../../test/support/drafts.ts";
import { createServiceClient } from "../../test/support/in-process/service.ts";
import { createUseCases } from "../../test/support/in-process/use-cases.ts";
import { databaseEngines } from "../../test/support/postgres/databases.ts";
import { type Findings, findViolations } from "./check.ts";
import { findMissingFromSearch, readMemories } from "./found-memories.ts";
import { createLedger } from "./ledger.ts";

const SOUND: Findings = {
  missing: [],
  duplicated: [],
  wrongContent: [],
  undeleted: [],
  foreign: [],
  notReady: [],
  wrongEmbeddings: [],
};

/** Damage done to the domain's tables behind the back of the service. */
const damages: { what: string; statement: string; found: Partial<Findings> }[] = [
  { what: "no damage", statement: "select 1", found: {} },
  { what: "a lost memory", statement: "delete from MEMORIES where id = 'a'", found: { missing: ["a"] } },
  {
    what: "a lost change",
    statement: "update MEMORIES set content = 'plum @20' where id = 'b'",
    found: { wrongContent: ["b"], wrongEmbeddings: ["b"] },
  },
  {
    what: "a duplicated memory",
    statement: copyOf("a", "'copy'"),
    found: { duplicated: ["copy"], foreign: ["copy"] },
  },
  {
    what: "a deleted memory that reappeared",
    statement: `${copyOf("a", "'deleted'")}; update MEMORIES set content = 'kiwi @10' where id = 'deleted'`,
    found: { undeleted: ["deleted"] },
  },
  {
    what: "a failed embedding",
    statement: "update MEMORIES set embedding_state = 'failed', embedding_error = 'refused' where id = 'a'",
    found: { notReady: ["a"] },
  },
  {
    what: "the embedding of another memory",
    statement:
      "update MEMORIES set embedding = (select embedding from MEMORIES where id = 'b') where id = 'a'",
    found: { wrongEmbeddings: ["a"] },
  },
  {
    what: "a lost chunk",
    statement: "delete from CHUNKS where chunk_index = 2",
    found: { wrongEmbeddings: ["long"] },
  },
];

describe.each(databaseEngines())("the check of a chaos run on $name", ({ open }) => {
  let database: Database;

  beforeAll(async () => {
    database = await open();
  });
  afterAll(() => database.close());

  test.each(damages)("reports $what", async ({ statement, found }) => {
    const useCases = createUseCases(database);
    const { domain } = useCases;
    const client = createServiceClient(useCases);
    const ledger = createLedger();
    const store = async (id: string, content: string) => {
      await client.store({ domain, id, content, ifExists: IfExists.REPLACE });
      ledger.acknowledge(id, content);
    };
    await store("a", "apple @10");
    await store("b", "plum @20");
    await store("b", "pear @30");
    await store("long", "date @40\n\n".repeat(300));
    await store("deleted", "kiwi @10");
    await client.delete({ domain, id: "deleted" });
    ledger.acknowledge("deleted", undefined);
    // The answer never arrived: both outcomes are right.
    await store("open", "fig @50");
    ledger.leaveOpen("open", "lime @60");
    ledger.leaveOpen("never stored", "lemon @70");

    for (const text of named(statement, domain).split("; ")) await database.query({ text });
    const findings = await findViolations(ledger, readMemories(client, domain), (text) =>
      at(Number(/@(\d+)/.exec(text)?.[1])),
    );
    expect(findings).toEqual({ ...SOUND, ...found });
    await useCases.close();
  });

  test("reports a memory that a full-text search does not find", async () => {
    const useCases = createUseCases(database);
    const { domain } = useCases;
    const client = createServiceClient(useCases);
    for (const id of ["a-1", "a-2"]) await client.store({ domain, id, content: `${id} apple` });
    await client.delete({ domain, id: "a-2" });
    expect(await findMissingFromSearch(client, domain, ["a-1", "a-2"])).toEqual(["a-2"]);
    await useCases.close();
  });
});

function copyOf(id: string, as: string): string {
  return `insert into MEMORIES (id, content, embedding, metadata, embedding_state, embedding_version)
    select ${as}, content, embedding, metadata, embedding_state, embedding_version from MEMORIES where id = '${id}'`;
}

function named(statement: string, domain: string): string {
  return statement.replaceAll("MEMORIES", `"${domain}_memories"`).replaceAll("CHUNKS", `"${domain}_chunks"`);
}
