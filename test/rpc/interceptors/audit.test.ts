import { once } from "node:events";
import { existsSync } from "node:fs";
import { readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { createClient, createRouterTransport, type Interceptor } from "@connectrpc/connect";
import { DomainService } from "memory-service-client/memoryservice/v1/domain_service_pb.js";
import { MemoryService } from "memory-service-client/memoryservice/v1/memory_service_pb.js";
import { ServerService } from "memory-service-client/memoryservice/v1/server_service_pb.js";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { type AuditEntry, auditIntoFile, auditIntoLog } from "../../../src/auth/audit-log.ts";
import { grantsFrom } from "../../../src/auth/scopes.ts";
import { createDomainUseCases } from "../../../src/memory/domains/domains.ts";
import { ServiceError } from "../../../src/memory/model/errors.ts";
import type { Repository } from "../../../src/memory/model/repository.ts";
import { kCaller } from "../../../src/rpc/caller.ts";
import { createAuditInterceptor } from "../../../src/rpc/interceptors/audit.ts";
import { createAuthorizeInterceptor } from "../../../src/rpc/interceptors/authorize.ts";
import { createErrorInterceptor } from "../../../src/rpc/interceptors/errors.ts";
import { methodRuleOf } from "../../../src/rpc/methods.ts";
import { createDomainService } from "../../../src/rpc/services/domain-service.ts";
import { createMemoryService } from "../../../src/rpc/services/memory-service.ts";
import type { Database } from "../../../src/storage/database/database.ts";
import { createLogRecorder } from "../../server/harness.ts";
import { createUseCases, type UseCases } from "../../support/in-process/use-cases.ts";
import { databaseEngines } from "../../support/postgres/databases.ts";
import { silentLogger } from "../../support/silent-logger.ts";
import { temporaryDirectory } from "../../support/temporary-directory.ts";

/** What no line may hold. */
const secret = "s3cret";

describe("a line of the audit", () => {
  let database: Database;
  let useCases: UseCases;
  let entries: AuditEntry[];

  beforeAll(async () => {
    const [engine] = databaseEngines();
    if (engine === undefined) throw new Error("no engine");
    database = await engine.open();
    useCases = createUseCases(database);
    await useCases.repository.createDomain(useCases.domain, 3);
  });
  afterAll(() => database.close());
  beforeEach(() => {
    entries = [];
  });

  /** Creates clients of a caller with full access to work and to the default domain. */
  function clients({ repository, contents, memories, domain: defaultDomain } = useCases) {
    const domains = createDomainUseCases({
      repository,
      contents,
      embedBudgetMs: 5_000,
      defaultDomain,
      onReindexing: () => {},
      logger: silentLogger,
    });
    const caller = { name: "key:ci", ...grantsFrom(["admin:work", `admin:${defaultDomain}`]) };
    const identify: Interceptor = (next) => (request) => {
      request.contextValues.set(kCaller, caller);
      return next(request);
    };
    const audit = { write: (entry: AuditEntry) => void entries.push(entry), close() {} };
    const transport = createRouterTransport(
      (router) => {
        router.service(MemoryService, createMemoryService(memories, { defaultDomain }));
        router.service(DomainService, createDomainService(domains, { defaultDomain }));
      },
      {
        router: {
          interceptors: [
            identify,
            createAuditInterceptor({ audit, defaultDomain }),
            createErrorInterceptor({ logger: silentLogger }),
            createAuthorizeInterceptor({ defaultDomain }),
          ],
        },
      },
    );
    return {
      memories: createClient(MemoryService, transport),
      domains: createClient(DomainService, transport),
    };
  }

  const line = (facts: Omit<AuditEntry, "who" | "requestId">): AuditEntry =>
    ({ who: "key:ci", ...facts, requestId: undefined }) as AuditEntry;

  test("names the caller, the action and the memory, but nothing of its content", async () => {
    const { memories } = clients();
    const memory = { domain: "work", id: "m1", content: secret, source: secret, tags: [secret] };
    await memories.store(memory);
    await memories.store(memory);
    await memories.store({ ...memory, content: `${secret} again`, ifExists: 2 });
    await memories.update({
      memory: { domain: "work", id: "m1", metadata: { [secret]: secret } },
      updateMask: { paths: ["metadata"] },
      metadataMode: 1,
    });
    await memories.delete({ domain: "work", id: "m1" });
    await memories.delete({ domain: "work", id: "m1", allowMissing: true });
    const on = { domain: "work", ids: ["m1"] };
    expect(entries).toEqual([
      line({ action: "Store", ...on, version: 1, outcome: "created" }),
      line({ action: "Store", ...on, version: 1, outcome: "unchanged" }),
      line({ action: "Store", ...on, version: 2, outcome: "replaced" }),
      line({ action: "Update", ...on, fields: ["metadata"], version: 3, outcome: "updated" }),
      line({ action: "Delete", ...on, outcome: "deleted" }),
      line({ action: "Delete", ...on, outcome: "missing" }),
    ]);
    expect(JSON.stringify(entries)).not.toContain(secret);
  });

  test("names the default domain and the id that the server generated", async () => {
    const { memories } = clients();
    const { memory } = await memories.store({ content: secret });
    expect(entries).toEqual([
      line({ action: "Store", domain: useCases.domain, ids: [memory?.id], version: 1, outcome: "created" }),
    ]);
  });

  test("of many memories has the changed fields and counts", async () => {
    const { memories } = clients();
    const items = Array.from({ length: 150 }, (_, n) => ({ domain: "work", id: `b${n}`, content: secret }));
    await memories.batchStore({ items: [...items, { domain: "foreign", id: "x", content: secret }] });
    await memories.import(
      (async function* () {
        yield { item: { case: "options" as const, value: { onError: 2 } } };
        for (const domain of ["work", "foreign"]) {
          yield {
            item: { case: "record" as const, value: { memory: { domain, id: "i1", content: secret } } },
          };
        }
      })(),
    );
    const filter = { condition: { case: "ids" as const, value: { values: ["b0", "b1"] } } };
    await memories.deleteMatching({ domain: "work", filter, dryRun: true });
    await memories.deleteMatching({ domain: "work", filter });
    await memories.retryFailed({ domain: "work" });
    expect(entries).toMatchObject([
      {
        action: "BatchStore",
        domains: ["work", "foreign"],
        items: 151,
        atomic: false,
        outcomes: { created: 150, failed: 1 },
        ids: items.slice(0, 100).map(({ id }) => id),
        outcome: "done",
      },
      {
        action: "Import",
        domains: ["work", "foreign"],
        outcomes: { created: 1, rejected: 1 },
        outcome: "done",
      },
      { action: "DeleteMatching", domain: "work", deleted: 2, outcome: "deleted" },
      { action: "RetryFailed", domain: "work", retried: 0, outcome: "retried" },
    ]);
    expect(JSON.stringify(entries)).not.toContain(secret);
  });

  test("names the domain that was changed, however many others are asked for", async () => {
    const { memories } = clients();
    const refused = Array.from({ length: 30 }, (_, n) => `foreign-${n}`);
    const all = [...refused, "work"].map((domain) => ({ domain, id: "m1", content: secret }));
    await memories.batchStore({ items: all });
    await memories.import(
      (async function* () {
        yield { item: { case: "options" as const, value: { onError: 2 } } };
        for (const memory of all) yield { item: { case: "record" as const, value: { memory } } };
      })(),
    );
    const domains = ["work", ...refused.slice(0, 20)];
    expect(entries).toMatchObject([
      { action: "BatchStore", domains, ids: ["m1"], outcomes: { created: 1, failed: 30 } },
      { action: "Import", domains, outcomes: { unchanged: 1, rejected: 30 } },
    ]);
  });

  describe("of a call that its caller canceled between two steps has what was done until then", () => {
    /** Creates clients whose call is canceled as soon as `method` of the repository has succeeded. */
    async function startLeaving(method: "deleteMatching" | "retryFailed" | "storeMany") {
      const leaving = new AbortController();
      const leave = async (seen: AbortSignal | undefined) => {
        leaving.abort();
        if (seen?.aborted === false) await once(seen, "abort");
      };
      const served = createUseCases(database, {
        wrap: (repository) => ({
          ...repository,
          async [method](...args: Parameters<Repository[typeof method]>) {
            const work = repository[method] as (...args: unknown[]) => Promise<unknown>;
            const result = await work(...args);
            await leave(args[2]);
            return result;
          },
        }),
      });
      await served.repository.createDomain(served.domain, 3);
      return { ...clients(served), domain: served.domain, signal: leaving.signal };
    }

    const insertFailed = (domain: string) =>
      database.query({
        text: `insert into "${domain}_memories" (id, content, metadata, embedding_state)
          select 'm' || i, 'x', '{"source":"old"}', 'failed' from generate_series(1, 1200) as i`,
      });

    test("DeleteMatching", async () => {
      const { memories, domain, signal } = await startLeaving("deleteMatching");
      await insertFailed(domain);
      const filter = { condition: { case: "sources" as const, value: { values: ["old"] } } };
      await expect(memories.deleteMatching({ domain, filter }, { signal })).rejects.toThrow();
      const facts = { domain, deleted: 500, outcome: "failed", reason: "CANCELED" };
      await expect.poll(() => entries).toEqual([line({ action: "DeleteMatching", ...facts })]);
    });

    test("RetryFailed", async () => {
      const { memories, domain, signal } = await startLeaving("retryFailed");
      await insertFailed(domain);
      await expect(memories.retryFailed({ domain }, { signal })).rejects.toThrow();
      const facts = { domain, retried: 1_000, outcome: "failed", reason: "CANCELED" };
      await expect.poll(() => entries).toEqual([line({ action: "RetryFailed", ...facts })]);
    });

    test("Import", async () => {
      const { memories, domain, signal } = await startLeaving("storeMany");
      const records = Array.from({ length: 600 }, (_, n) => ({ memory: { id: `i${n}`, content: secret } }));
      const imported = memories.import(
        (async function* () {
          yield { item: { case: "options" as const, value: { domain } } };
          for (const value of records) yield { item: { case: "record" as const, value } };
        })(),
        { signal },
      );
      await expect(imported).rejects.toThrow();
      const outcomes = { created: 500, replaced: 0, unchanged: 0, kept: 0, rejected: 0 };
      const facts = { domains: [domain], outcomes, outcome: "failed", reason: "CANCELED" };
      await expect.poll(() => entries).toEqual([line({ action: "Import", ...facts })]);
    });
  });

  test("is written for domains", async () => {
    const { domains } = clients();
    await domains.createDomain({ name: "work" });
    await domains.updateDomain({
      domain: { name: "work", description: secret },
      updateMask: { paths: ["description"] },
    });
    await domains.deleteDomain({ name: "work", confirmName: "work" });
    await domains.createDomain({ name: "work" });
    expect(entries).toMatchObject([
      { action: "CreateDomain", domain: "work", outcome: "unchanged" },
      { action: "UpdateDomain", domain: "work", fields: ["description"], outcome: "updated" },
      { action: "DeleteDomain", domain: "work", outcome: "deleted" },
      { action: "CreateDomain", domain: "work", outcome: "created" },
    ]);
    expect(JSON.stringify(entries)).not.toContain(secret);
  });

  describe("of a domain change that failed after it was committed reports the change", () => {
    /** Creates clients of a server whose `method` of the repository fails once `fail` has been called. */
    function createFailing(method: "measureDomain" | "readDomain") {
      let failing = false;
      const served = createUseCases(database, {
        wrap: (repository) => ({
          ...repository,
          async [method](...args: Parameters<Repository[typeof method]>): Promise<unknown> {
            if (failing) throw new ServiceError("DATABASE_UNAVAILABLE", "the database is unavailable");
            return await (repository[method] as (...args: unknown[]) => Promise<unknown>)(...args);
          },
        }),
      });
      const fail = () => {
        failing = true;
      };
      return { ...clients(served), domain: served.domain, store: served.store, fail };
    }
    const failed = { outcome: "failed", reason: "DATABASE_UNAVAILABLE" };

    test("CreateDomain, unless the domain existed already", async () => {
      const { domains, domain, fail } = createFailing("measureDomain");
      fail();
      for (let n = 0; n < 2; n++) {
        await expect(domains.createDomain({ name: domain })).rejects.toThrow("the database is unavailable");
      }
      expect(entries).toEqual([
        line({ action: "CreateDomain", domain, changed: true, ...failed }),
        line({ action: "CreateDomain", domain, ...failed }),
      ]);
    });

    test("UpdateDomain", async () => {
      const { domains, domain, store, fail } = createFailing("measureDomain");
      await store();
      fail();
      const request = { domain: { name: domain }, updateMask: { paths: ["description"] } };
      await expect(domains.updateDomain(request)).rejects.toThrow("the database is unavailable");
      const facts = { domain, fields: ["description"], changed: true };
      expect(entries).toEqual([line({ action: "UpdateDomain", ...facts, ...failed })]);
    });

    test("DeleteDomain", async () => {
      const { domains, domain, store, fail } = createFailing("readDomain");
      await store();
      fail();
      const request = { name: domain, confirmName: domain };
      await expect(domains.deleteDomain(request)).rejects.toThrow("the database is unavailable");
      const facts = { domain, changed: true, deleted: 1 };
      expect(entries).toEqual([line({ action: "DeleteDomain", ...facts, ...failed })]);
    });
  });

  test("is written for what was refused or failed, with the reason", async () => {
    const { memories, domains } = clients();
    const foreign = { domain: "foreign", id: "m1" };
    const refusals = [
      memories.store({ ...foreign, content: secret }),
      memories.store({ domain: "work", id: "m1", content: "" }),
      memories.update({
        memory: { domain: "work", id: "none", source: "x" },
        updateMask: { paths: ["source"] },
      }),
      memories.delete({ domain: "work", id: "none" }),
      domains.deleteDomain({ name: "foreign", confirmName: "foreign" }),
      memories.import(
        (async function* () {
          yield { item: { case: "options" as const, value: { domain: "foreign" } } };
        })(),
      ),
    ];
    const settled = await Promise.allSettled(refusals);
    expect(settled.filter(({ status }) => status === "fulfilled")).toEqual([]);
    const outcomes = entries.map(({ action, outcome, reason, domain, domains: several }) => [
      action,
      outcome,
      reason,
      domain ?? several,
    ]);
    expect(outcomes.sort()).toEqual(
      [
        ["Store", "failed", "PERMISSION_DENIED", "foreign"],
        ["Store", "failed", "INVALID_ARGUMENT", "work"],
        ["Update", "failed", "MEMORY_NOT_FOUND", "work"],
        ["Delete", "failed", "MEMORY_NOT_FOUND", "work"],
        ["DeleteDomain", "failed", "PERMISSION_DENIED", "foreign"],
        ["Import", "failed", "PERMISSION_DENIED", ["foreign"]],
      ].sort(),
    );
  });
});

test("every method that changes something is audited, and no other", () => {
  const methods = [MemoryService, DomainService, ServerService].flatMap(({ methods: all }) => all);
  const reads = methods
    .filter((method) => methodRuleOf(method)?.audit === "unaudited")
    .map(({ name }) => name);
  expect(reads).toEqual([
    "Get",
    "List",
    "Search",
    "StreamSearch",
    "Export",
    "GetDomain",
    "ListDomains",
    "GetServerInfo",
  ]);
});

const entry: AuditEntry = {
  who: "key:ci",
  action: "Store",
  domain: "work",
  outcome: "created",
  requestId: "r1",
};

test("the log has the lines, marked", () => {
  const { logger, lines } = createLogRecorder();
  auditIntoLog(logger).write(entry);
  expect(lines).toEqual([{ level: "info", message: "audit", fields: { audit: true, ...entry } }]);
});

test("a file has them at its end, at once, and is its owner's", async () => {
  const { path: directory, remove } = await temporaryDirectory();
  const path = join(directory, "audit.log");
  for (const domain of ["one", "two"]) {
    const audit = auditIntoFile(path, silentLogger);
    audit.write({ ...entry, domain });
    const lines = (await readFile(path, "utf8")).trim().split("\n");
    expect(JSON.parse(lines.at(-1) ?? "")).toMatchObject({
      time: expect.stringMatching(/^\d{4}-/),
      ...entry,
      domain,
    });
    audit.close();
  }
  expect((await readFile(path, "utf8")).split("\n")).toHaveLength(3);
  expect((await stat(path)).mode & 0o777).toBe(0o600);
  await remove();
});

test("a file that cannot be written to stops the start", () => {
  expect(() => auditIntoFile("/nowhere/audit.log", silentLogger)).toThrow(
    "cannot write to the audit file /nowhere/audit.log: set MEMORY_AUDIT_FILE to a writable file, or unset it",
  );
});

test.skipIf(!existsSync("/dev/full"))("a full disk stops no call, and does not fill the log", () => {
  const { logger, lines } = createLogRecorder();
  const audit = auditIntoFile("/dev/full", logger);
  for (let n = 0; n < 100; n++) audit.write(entry);
  expect(lines).toMatchObject([{ level: "error", message: "cannot write to the audit file" }]);
  audit.close();
});
