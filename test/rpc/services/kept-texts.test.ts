import v8 from "node:v8";
import vm from "node:vm";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { createContextValues } from "@connectrpc/connect";
import { ImportRequestSchema } from "memory-service-client/memoryservice/v1/memory_service_pb.js";
import { expect, test } from "vitest";
import { UNAUTHENTICATED, UNRESTRICTED } from "../../../src/auth/caller.ts";
import { createDomainList } from "../../../src/rpc/audit-facts.ts";
import { kCaller } from "../../../src/rpc/caller.ts";
import { denialIn } from "../../../src/rpc/interceptors/authorize.ts";
import { importCommandFromRequests } from "../../../src/rpc/messages/import.ts";
import { collect } from "../../support/collect.ts";

const MEBIBYTE = 1024 * 1024;
const TEXTS = 16;
const TEXT_BYTES = 2 * MEBIBYTE;

v8.setFlagsFromString("--expose-gc");
const collectGarbage: () => void = vm.runInNewContext("gc");

const bytes = Buffer.alloc(TEXT_BYTES);

/** As it comes out of a message: in memory as a whole. */
function longText(n: number): string {
  return bytes.fill(`${n}-`).toString();
}

/** Returns the number of bytes that the result of `create` keeps in memory. */
async function heldBytes(create: () => Promise<unknown>): Promise<number> {
  const before = usedBytes();
  const result = await create();
  const held = usedBytes() - before;
  expect(result).toBeDefined();
  return held;
}

/** Returns the bytes in use, including external memory: long strings are outside the heap. */
function usedBytes(): number {
  collectGarbage();
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}

async function* requests(memory: (n: number) => object) {
  yield create(ImportRequestSchema, { item: { case: "options", value: {} } });
  for (let n = 0; n < TEXTS; n++) {
    const item = { case: "record", value: { memory: memory(n) } };
    yield create(ImportRequestSchema, { item } as MessageInitShape<typeof ImportRequestSchema>);
  }
}

test.each([
  [
    "a domain that the caller may not write to",
    UNAUTHENTICATED,
    (n: number) => ({ id: "m", domain: longText(n) }),
  ],
  ["a domain that is none", UNRESTRICTED, (n: number) => ({ id: "m", domain: longText(n) })],
  ["an id that is none", UNRESTRICTED, (n: number) => ({ id: longText(n) })],
])("of a rejected record with %s little is kept", async (_, caller, memory) => {
  const denialOf = denialIn({ values: createContextValues().set(kCaller, caller) }, "write", "default");
  const held = await heldBytes(async () => {
    const { records } = await importCommandFromRequests(requests(memory), "default", denialOf);
    return await collect(records);
  });
  expect(held).toBeLessThan(TEXT_BYTES * 4);
});

test.each([
  ["open", true],
  ["refused", false],
])("of names of %s domains the audit keeps little", async (_, mayWrite) => {
  const held = await heldBytes(async () => {
    const domains = createDomainList("default", () => mayWrite);
    for (let n = 0; n < TEXTS; n++) domains.add(longText(n));
    return domains;
  });
  expect(held).toBeLessThan(TEXT_BYTES * 4);
});
