import type { Queryable } from "../../database/database.ts";

/** Reads the key of page tokens. Generates a new one if it was deleted, which invalidates all tokens. */
export async function readPageTokenKey(database: Queryable): Promise<Uint8Array> {
  return (await selectKey(database)) ?? (await generateKey(database));
}

async function selectKey(database: Queryable): Promise<Uint8Array | undefined> {
  const rows = await database.query<{ secret: Uint8Array }>({
    text: "select secret from memory_secrets where name = 'page_token'",
  });
  return rows[0]?.secret;
}

async function generateKey(database: Queryable): Promise<Uint8Array> {
  await database.query({
    writes: true,
    text: `insert into memory_secrets (name, secret)
      values ('page_token', uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()))
      on conflict do nothing`,
  });
  const key = await selectKey(database);
  if (key === undefined) throw new Error("the new page token key does not exist");
  return key;
}
