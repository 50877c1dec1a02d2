import { create } from "@bufbuild/protobuf";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { DomainService } from "memory-service-client/memoryservice/v1/domain_service_pb.js";
import { MemoryService } from "memory-service-client/memoryservice/v1/memory_service_pb.js";
import { ServerService } from "memory-service-client/memoryservice/v1/server_service_pb.js";
import { describe, expect, test } from "vitest";
import { readConfig } from "../../src/app/config.ts";
import { createApiKey } from "../../src/auth/api-keys.ts";
import { createAuthenticator } from "../../src/auth/authenticator.ts";
import { ErrorInfoSchema } from "../../src/generated/google/rpc/error_details_pb.ts";
import { Health } from "../../src/generated/grpc/health/v1/health_pb.ts";
import {
  ServerReflection,
  ServerReflectionRequestSchema,
} from "../../src/generated/grpc/reflection/v1/reflection_pb.ts";
import type { DomainUseCases } from "../../src/memory/domains/domains.ts";
import type { MemoryUseCases } from "../../src/memory/use-cases.ts";
import { createAuthorizeInterceptor } from "../../src/rpc/interceptors/authorize.ts";
import { createErrorInterceptor } from "../../src/rpc/interceptors/errors.ts";
import { isPublic, methodRuleOf } from "../../src/rpc/methods.ts";
import { createDomainService } from "../../src/rpc/services/domain-service.ts";
import { createHealth } from "../../src/rpc/services/health.ts";
import { createMemoryService } from "../../src/rpc/services/memory-service.ts";
import { createReflection } from "../../src/rpc/services/reflection.ts";
import { createServerService } from "../../src/rpc/services/server-service.ts";
import type { HttpHandlerOptions } from "../../src/server/http-handler.ts";
import { collect } from "../support/in-process/service.ts";
import { silentLogger } from "../support/silent-logger.ts";
import {
  cleanUp,
  createLogRecorder,
  grpcTransport,
  send,
  sendJson,
  startTestListener,
  transports,
} from "./harness.ts";

const defaultDomain = "default";
const services = [MemoryService, DomainService, ServerService];
const methods = services.flatMap((service) => service.methods.map((method) => ({ service, method })));

const keys = {
  none: createApiKey({ name: "none", scopes: [] }),
  acme: createApiKey({ name: "acme", scopes: ["admin:acme"] }),
  scraper: createApiKey({ name: "scraper", scopes: ["metrics"] }),
  expired: createApiKey({ name: "expired", scopes: ["admin:*"], expires: new Date(0) }),
};

/** Use cases that must not be reached. */
function untouchable<T extends object>(): T {
  return new Proxy({} as T, {
    get: (_target, name): unknown => {
      if (name === "search") return untouchable();
      return () => {
        throw new Error(`looked something up: ${String(name)}`);
      };
    },
  });
}

async function startServer(options: Partial<HttpHandlerOptions> = {}) {
  const lines = Object.values(keys).map(({ line }) => line);
  const { settings } = readConfig({ MEMORY_API_KEYS: lines.join("\n") });
  const authenticator = await createAuthenticator(settings, silentLogger);
  cleanUp(() => authenticator?.close());
  const health = createHealth({ services: [""] });
  return await startTestListener(
    (router) => {
      router.service(MemoryService, createMemoryService(untouchable<MemoryUseCases>(), { defaultDomain }));
      router.service(DomainService, createDomainService(untouchable<DomainUseCases>(), { defaultDomain }));
      router.service(
        ServerService,
        createServerService({
          version: "1.2.3",
          engine: "postgres",
          engineVersion: "",
          defaultDomain,
          createDomains: true,
          authentication: true,
          model: "m",
          embedder: { status: () => ({ available: true, reason: "" }), space: () => undefined },
          contents: { current: async () => undefined },
          textRanker: "bm25_sql",
        }),
      );
      health.routes(router);
      createReflection([...services, Health])(router);
    },
    {
      interceptors: [
        createErrorInterceptor(createLogRecorder()),
        createAuthorizeInterceptor({ defaultDomain }),
      ],
      authenticator,
      metrics: async () => ({ contentType: "text/plain", text: "memory_service_up 1\n" }),
      readiness: async () => ({ ready: false, checks: { database: { ok: false, detail: "at 10.0.0.5" } } }),
      ...options,
    },
  );
}

interface JsonError {
  readonly code: string;
  readonly message: string;
  readonly details?: readonly { readonly debug?: unknown }[];
}

/** A call in Connect's JSON; streams have their message in an envelope and their error at the end. */
async function call(
  url: string,
  { service, method }: Pick<(typeof methods)[number], "service" | "method">,
  body: unknown,
  headers: Record<string, string>,
): Promise<{
  readonly status: number;
  readonly headers: Record<string, unknown>;
  readonly error: JsonError | undefined;
}> {
  const path = `${url}/${service.typeName}/${method.name}`;
  if (method.methodKind === "unary") {
    const answer = await sendJson(path, JSON.stringify(body), headers);
    return { ...answer, error: answer.status === 200 ? undefined : JSON.parse(answer.text) };
  }
  const answer = await send(path, {
    headers: { "content-type": "application/connect+json", ...headers },
    body: envelope(JSON.stringify(body)),
  });
  return { ...answer, error: JSON.parse(answer.text.slice(answer.text.lastIndexOf('{"error"'))).error };
}

async function* streamOf<T>(message: T) {
  yield message;
}

function envelope(text: string): Buffer {
  const head = Buffer.alloc(5);
  head.writeUInt32BE(Buffer.byteLength(text), 1);
  return Buffer.concat([head, Buffer.from(text)]);
}

describe("without valid credentials", () => {
  test("every method of every service is Unauthenticated, in every protocol, before its body is looked at", async () => {
    const server = await startServer();
    for (const target of methods) {
      const { status, headers, error } = await call(server.url, target, "no such request", {});
      expect([target.method.name, error?.code]).toEqual([target.method.name, "unauthenticated"]);
      if (target.method.methodKind === "unary") expect(status).toBe(401);
      expect(headers["www-authenticate"]).toBe('Bearer realm="memory-service"');
      expect(JSON.stringify(error?.details)).toContain("UNAUTHENTICATED");
    }
    for (const createTransport of Object.values(transports)) {
      const client = createClient(MemoryService, createTransport(server.url));
      const error = await client.get({ id: "m1" }).catch((thrown: unknown) => ConnectError.from(thrown));
      expect(error).toMatchObject({ code: Code.Unauthenticated });
      expect((error as ConnectError).findDetails(ErrorInfoSchema)).toMatchObject([
        { reason: "UNAUTHENTICATED" },
      ]);
    }
  });

  test.each([
    ["no header", undefined, "the call has no credentials; send the header authorization: Bearer KEY"],
    ["an empty one", "", "the credentials are not valid"],
    ["another scheme", `Basic ${keys.acme.key}`, "the credentials are not valid"],
    ["no scheme", keys.acme.key, "the credentials are not valid"],
    ["an unknown key", "Bearer msk_unknown", "the credentials are not valid"],
    ["a token where there is no issuer", "Bearer a.b.c", "the credentials are not valid"],
    ["two keys", `Bearer ${keys.acme.key} ${keys.none.key}`, "the credentials are not valid"],
    ["a key that has expired", `Bearer ${keys.expired.key}`, "the API key has expired"],
  ])("the answer says why: %s", async (_name, authorization, message) => {
    const server = await startServer();
    const target = { service: ServerService, method: ServerService.method.getServerInfo };
    const headers: Record<string, string> = authorization === undefined ? {} : { authorization };
    const { error } = await call(server.url, target, {}, headers);
    expect(error).toMatchObject({ code: "unauthenticated", message });
  });
});

const allowed = (key: { readonly key: string }) => ({ authorization: `bearer ${key.key}` });

/** Methods whose answer leaves out what a caller may not see, or which decide about each item. */
const others = ["BatchStore", "Import", "ListDomains", "GetServerInfo"];

describe("without a scope", () => {
  test.each(
    methods
      .filter(({ method }) => !others.includes(method.name))
      .map((target) => [target.method.name, target] as const),
  )("%s is PermissionDenied before anything is looked up", async (name, target) => {
    const server = await startServer();
    const inDomain = { UpdateDomain: { domain: { name: "acme" } }, Update: { memory: { domain: "acme" } } };
    const named = target.service === DomainService ? { name: "acme" } : { domain: "acme" };
    const body = name in inDomain ? inDomain[name as keyof typeof inDomain] : named;
    const { error } = await call(server.url, target, body, allowed(keys.none));
    const rule = methodRuleOf(target.method)?.access;
    const level = typeof rule === "object" ? rule.level : "";
    expect(error).toMatchObject({
      code: "permission_denied",
      message: `the credentials do not allow ${level} in domain "acme"`,
    });
    expect(error?.details?.[0]).toMatchObject({
      debug: { reason: "PERMISSION_DENIED", metadata: { domain: "acme", scope: level } },
    });
  });

  test("the default domain is not called by its name", async () => {
    const server = await startServer();
    const target = { service: MemoryService, method: MemoryService.method.search };
    const { error } = await call(server.url, target, { query: "x" }, allowed(keys.acme));
    expect(error).toMatchObject({ message: "the credentials do not allow read in the default domain" });
    const info = await sendJson(
      `${server.url}/${ServerService.typeName}/GetServerInfo`,
      "{}",
      allowed(keys.acme),
    );
    expect(JSON.parse(info.text)).toMatchObject({ version: "1.2.3", features: { authentication: true } });
    expect(JSON.parse(info.text)).not.toHaveProperty("defaultDomain");
  });

  test("every domain of a search counts, wherever it is named", async () => {
    const server = await startServer();
    const target = { service: MemoryService, method: MemoryService.method.search };
    for (const body of [
      { query: "x", domains: ["acme", "other"] },
      { query: "x", domain: "acme", domains: ["other"] },
      { query: "x", domain: "other", allDomains: true },
    ]) {
      const { error } = await call(server.url, target, body, allowed(keys.acme));
      expect(error).toMatchObject({ message: 'the credentials do not allow read in domain "other"' });
    }
  });
});

test("what needs which scope is decided for every method, and as documented", () => {
  const table = methods.map(({ method }) => {
    const rule = methodRuleOf(method)?.access;
    return [method.name, typeof rule === "object" ? rule.level : rule];
  });
  expect(Object.fromEntries(table)).toEqual({
    Store: "write",
    BatchStore: "per-item",
    Get: "read",
    List: "read",
    Update: "write",
    Delete: "write",
    DeleteMatching: "write",
    Search: "read",
    StreamSearch: "read",
    Export: "read",
    Import: "per-item",
    RetryFailed: "write",
    CreateDomain: "admin",
    GetDomain: "read",
    ListDomains: "filtered",
    UpdateDomain: "admin",
    DeleteDomain: "admin",
    GetServerInfo: "filtered",
  });
  expect(services.filter(isPublic)).toEqual([]);
});

describe("what needs no credentials", () => {
  test("is health, in every protocol, and reflection", async () => {
    const server = await startServer();
    for (const createTransport of Object.values(transports)) {
      expect(await createClient(Health, createTransport(server.url)).check({})).toBeDefined();
    }
    const reflection = createClient(ServerReflection, grpcTransport(server.url));
    const question = create(ServerReflectionRequestSchema, {
      messageRequest: { case: "listServices", value: "" },
    });
    const answers = await collect(reflection.serverReflectionInfo(streamOf(question)));
    expect(answers.map(({ messageResponse }) => messageResponse.case)).toEqual(["listServicesResponse"]);
  });

  test("is /livez, and /readyz without the details", async () => {
    const server = await startServer();
    expect((await send(`${server.url}/livez`)).status).toBe(200);
    const readyz = await send(`${server.url}/readyz`);
    expect([readyz.status, JSON.parse(readyz.text)]).toEqual([
      503,
      { ready: false, checks: { database: { ok: false, detail: "does not work" } } },
    ]);
  });
});

test("/metrics need the scope of that name", async () => {
  const server = await startServer();
  const statusWith = async (headers: Record<string, string>) =>
    (await send(`${server.url}/metrics`, { headers })).status;
  expect(await statusWith({})).toBe(401);
  expect(await statusWith(allowed(keys.expired))).toBe(401);
  expect(await statusWith(allowed(keys.acme))).toBe(403);
  const answer = await send(`${server.url}/metrics`, { headers: allowed(keys.scraper) });
  expect([answer.status, answer.text]).toEqual([200, "memory_service_up 1\n"]);
});

test("the log of calls names the caller, and has no credentials", async () => {
  const server = await startServer();
  const target = { service: MemoryService, method: MemoryService.method.get };
  await call(server.url, target, { domain: "other", id: "m1" }, allowed(keys.acme));
  const line = await server.find(({ message }) => message === "call");
  expect(line.fields).toMatchObject({ caller: "key:acme", code: "permission_denied", domain: "other" });
  await call(server.url, target, {}, { authorization: "Bearer msk_wrong-one" });
  await server.find(({ fields }) => fields.code === "unauthenticated");
  expect(JSON.stringify(server.lines)).not.toMatch(/msk_/);
});

test("a decision takes microseconds, with as many keys as there may be", async () => {
  const many = Array.from({ length: 1_000 }, (_, n) =>
    createApiKey({ name: `k${n}`, scopes: ["read:acme"] }),
  );
  const { settings } = readConfig({ MEMORY_API_KEYS: many.map(({ line }) => line).join("\n") });
  const authenticator = await createAuthenticator(settings, silentLogger);
  const header = `Bearer ${many.at(-1)?.key}`;
  const took = Array.from({ length: 50 }, () => {
    const start = performance.now();
    expect(authenticator?.authenticate(header)).toMatchObject({ name: "key:k999" });
    return performance.now() - start;
  });
  // Measured: 0.3 ms. Whatever else the machine does.
  expect(Math.min(...took)).toBeLessThan(2);
});
