import { create, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { BinaryWriter, WireType } from "@bufbuild/protobuf/wire";
import { Code, createClient } from "@connectrpc/connect";
import type { FilterSchema } from "memory-service-client/memoryservice/v1/filter_pb.js";
import {
  MemoryService,
  SearchMode,
  SearchRequestSchema,
} from "memory-service-client/memoryservice/v1/memory_service_pb.js";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Database } from "../../../src/storage/database/database.ts";
import { grpcTransport, send, sendJson, startTestListener } from "../../server/harness.ts";
import { collect, errorOf, memoryServiceRoutes } from "../../support/in-process/service.ts";
import { createUseCases, type UseCases } from "../../support/in-process/use-cases.ts";
import { databaseEngines } from "../../support/postgres/databases.ts";

type Filter = MessageInitShape<typeof FilterSchema>;

describe.each(databaseEngines())("a filtered search over gRPC on $name", ({ open }) => {
  let database: Database;
  let useCases: UseCases;

  beforeAll(async () => {
    database = await open();
    useCases = createUseCases(database);
    const stored = [
      ["m1", "an apple @0", "shop", ["red"], { kind: "fruit", price: 1 }],
      ["m2", "an apple @10", "", ["green"], { kind: "fruit", price: 2 }],
      ["m3", "an apple pie @20", "shop", ["red", "warm"], { kind: "cake", price: "2" }],
      ["m4", "a pear @30", "shop", [], { kind: "fruit" }],
    ] as const;
    for (const [id, content, source, tags, metadata] of stored) {
      await useCases.store({ id, content, source, tags, metadata });
    }
  });
  afterAll(() => database.close());

  const connect = async () => {
    const { url } = await startTestListener(memoryServiceRoutes(useCases));
    return { url, client: createClient(MemoryService, grpcTransport(url)) };
  };
  const price: Filter = {
    condition: {
      case: "metadata",
      value: { path: ["price"], test: { case: "range", value: { gte: 1 } } },
    },
  };
  const red: Filter = { condition: { case: "tagsAny", value: { values: ["red"] } } };
  const notRed: Filter = { condition: { case: "noneOf", value: { filters: [red] } } };

  test.each([
    ["metadata", price, ["m1", "m2"]],
    ["tags", red, ["m1", "m3"]],
    ["their absence", notRed, ["m2", "m4"]],
    ["both", { condition: { case: "allOf", value: { filters: [price, notRed] } } }, ["m2"]],
    ["nothing that exists", { condition: { case: "ids", value: { values: ["m9"] } } }, []],
  ] satisfies [string, Filter, string[]][])("finds by %s", async (_name, filter, ids) => {
    const { client } = await connect();
    for (const mode of [SearchMode.HYBRID, SearchMode.SEMANTIC]) {
      const { hits, info } = await client.search({ query: "apple @0", filter, mode });
      expect(hits.map(({ memory }) => memory?.id).sort()).toEqual(ids);
      expect(info?.limitFilled).toBe(true);
    }
    const byWords = await client.search({ query: "apple", filter, mode: SearchMode.TEXT });
    expect(byWords.hits.map(({ memory }) => memory?.id).sort()).toEqual(ids.filter((id) => id !== "m4"));
    const messages = await collect(client.streamSearch({ query: "apple @0", filter }));
    const streamed = messages.flatMap(({ item }) => (item.case === "hit" ? [item.value.memory?.id] : []));
    expect(streamed.sort()).toEqual(ids);
  });

  test("names the path of what is wrong", async () => {
    const { client } = await connect();
    const filter: Filter = {
      condition: { case: "anyOf", value: { filters: [red, { condition: { case: "sources", value: {} } }] } },
    };
    expect(await errorOf(client.search({ query: "", filter }))).toMatchObject({
      code: Code.InvalidArgument,
      violations: [
        { field: "query", description: "must not be empty" },
        {
          field: "filter.any_of.filters[1].sources.values",
          description: "must have 1 to 1000 entries, has 0",
        },
      ],
    });
  });

  test("names what DeleteMatching then deletes", async () => {
    const { client } = await connect();
    for (const id of ["d1", "d2"]) await useCases.store({ id, content: "apple @180", tags: ["doomed"] });
    const filter: Filter = { condition: { case: "tagsAny", value: { values: ["doomed"] } } };
    expect(await client.deleteMatching({ filter, dryRun: true })).toMatchObject({ matched: 2n, deleted: 0n });
    const { hits } = await client.search({ query: "apple @180", filter });
    expect(hits.map(({ memory }) => memory?.id).sort()).toEqual(["d1", "d2"]);
    expect(await client.deleteMatching({ filter })).toMatchObject({ matched: 2n, deleted: 2n });
    expect((await client.search({ query: "apple @180", filter })).hits).toEqual([]);
    expect(await errorOf(client.deleteMatching({ domain: "missing", filter }))).toMatchObject({
      code: Code.NotFound,
      reason: "DOMAIN_NOT_FOUND",
    });
  });

  // What is nested deeper than the decoder goes never reaches the handler.
  describe("of many levels", () => {
    const jsonOf = (levels: number) =>
      `{"query":"apple @0","filter":${'{"anyOf":{"filters":['.repeat(levels - 1)}{"ids":{"values":["m1"]}}${"]}}".repeat(levels - 1)}}`;
    /** Encoded by hand: the library's own encoder would not go so deep. */
    const bytesOf = (levels: number) => {
      let filter = new BinaryWriter().tag(4, WireType.LengthDelimited);
      filter = filter.bytes(new BinaryWriter().tag(1, WireType.LengthDelimited).string("m1").finish());
      let bytes = filter.finish();
      for (let level = 1; level < levels; level++) {
        const list = new BinaryWriter().tag(1, WireType.LengthDelimited).bytes(bytes).finish();
        bytes = new BinaryWriter().tag(2, WireType.LengthDelimited).bytes(list).finish();
      }
      const request = toBinary(SearchRequestSchema, create(SearchRequestSchema, { query: "apple @0" }));
      return new BinaryWriter().raw(request).tag(7, WireType.LengthDelimited).bytes(bytes).finish();
    };

    test.each([
      [8, 200, 200, /"m1"/, /m1/],
      [9, 400, 400, /must be at most 8 levels deep, is deeper/, /must be at most 8 levels deep, is deeper/],
      [400, 400, 400, /maximum recursion depth of 100 reached/, /must be at most 8 levels deep, is deeper/],
      // Connect's own code for what cannot be decoded: see undecodable.test.ts.
      [5_000, 400, 500, /maximum recursion depth of 100 reached/, /maximum recursion depth of 1000 reached/],
    ])("%d is answered clearly", async (levels, jsonStatus, binaryStatus, jsonText, binaryText) => {
      const { url } = await connect();
      const path = `${url}/memoryservice.v1.MemoryService/Search`;
      const json = await sendJson(path, jsonOf(levels));
      expect(json).toMatchObject({ status: jsonStatus, text: expect.stringMatching(jsonText) });
      const headers = { "content-type": "application/proto", "connect-protocol-version": "1" };
      const binary = await send(path, { body: bytesOf(levels), headers });
      expect(binary).toMatchObject({ status: binaryStatus, text: expect.stringMatching(binaryText) });
    });
  });
});
