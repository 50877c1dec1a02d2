import type { Queryable } from "../../database/database.ts";

/** Reads the key of page tokens; makes another if somebody has deleted it, which ends all tokens. */
export async function readPageTokenKey(database: Queryable): Promise<Uint8Array> {
  return (await selectKey(database)) ?? (await makeKey(database));
}

async function selectKey(database: Queryable): Promise<Uint8Array | undefined> {
  const rows = await database.query<{ secret: Uint8Array }>({
    text: "select secret from memory_secrets where name = 'page_token'",
  });
  return rows[0]?.secret;
}

async function makeKey(database: Queryable): Promise<Uint8Array> {
  await database.query({
    text: `insert into memory_secrets (name, secret)
      values ('page_token', uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()))
      on conflict do nothing`,
  });
  const key = await selectKey(database);
  if (key === undefined) throw new Error("the key of page tokens just made is not there");
  return key;
}
