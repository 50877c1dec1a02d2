import http2 from "node:http2";
import https from "node:https";
import { connect as connectPlain } from "node:net";
import { connect, type PeerCertificate, type TLSSocket } from "node:tls";
import { createClient, type Transport } from "@connectrpc/connect";
import {
  createConnectTransport,
  createGrpcTransport,
  createGrpcWebTransport,
  Http2SessionManager,
} from "@connectrpc/connect-node";
import { describe, expect, test } from "vitest";
import { assertUsable } from "../../src/auth/tls.ts";
import { Health, HealthCheckResponse_ServingStatus } from "../../src/generated/grpc/health/v1/health_pb.ts";
import { createHealth } from "../../src/rpc/services/health.ts";
import type { ListenerOptions } from "../../src/server/listener.ts";
import { tlsFile, tlsPair } from "../support/server/tls.ts";
import { cleanUp, startTestListener } from "./harness.ts";

const ca = tlsFile("ca.pem");
const server = { ...tlsPair("server"), clientAuthorities: undefined };
const mutual = { ...server, clientAuthorities: ca };
const { certificate: cert, key } = tlsPair("client");

async function start(options: Partial<ListenerOptions> = {}) {
  const health = createHealth({ services: [""] });
  health.set("", "serving");
  const listener = await startTestListener(health.routes, { tls: server, ...options });
  return { ...listener, health };
}

interface ClientTls {
  readonly ca?: Buffer;
  readonly cert?: Buffer;
  readonly key?: Buffer;
}

function session(url: string, tls: ClientTls): Http2SessionManager {
  const manager = new Http2SessionManager(url, {}, { ...tls });
  cleanUp(() => manager.abort());
  return manager;
}

function agent(tls: ClientTls): https.Agent {
  const created = new https.Agent({ keepAlive: true, ...tls });
  cleanUp(() => created.destroy());
  return created;
}

const ways: Readonly<Record<string, (baseUrl: string, tls: ClientTls) => Transport>> = {
  "gRPC over HTTP/2": (baseUrl, tls) =>
    createGrpcTransport({ baseUrl, sessionManager: session(baseUrl, tls) }),
  "Connect over HTTP/2": (baseUrl, tls) =>
    createConnectTransport({ baseUrl, httpVersion: "2", sessionManager: session(baseUrl, tls) }),
  "Connect over HTTP/1.1": (baseUrl, tls) =>
    createConnectTransport({ baseUrl, httpVersion: "1.1", nodeOptions: { agent: agent(tls) } }),
  "gRPC-Web over HTTP/1.1": (baseUrl, tls) =>
    createGrpcWebTransport({ baseUrl, httpVersion: "1.1", nodeOptions: { agent: agent(tls) } }),
};

const serving = { status: HealthCheckResponse_ServingStatus.SERVING };

/** A TLS connection that has shaken hands, closed after the test. */
function shake(port: number, options: { readonly alpn?: string[] } & ClientTls = {}): Promise<TLSSocket> {
  const { alpn, ...tls } = options;
  const { promise, resolve, reject } = Promise.withResolvers<TLSSocket>();
  const socket = connect({
    port,
    host: "127.0.0.1",
    ca,
    ...tls,
    ...(alpn === undefined ? {} : { ALPNProtocols: alpn }),
  });
  socket.once("secureConnect", () => resolve(socket)).once("error", reject);
  cleanUp(() => {
    socket.destroy();
  });
  return promise;
}

function serialOf(socket: TLSSocket): string {
  return (socket.getPeerCertificate() as PeerCertificate).serialNumber;
}

describe("with a certificate", () => {
  test.each(Object.entries(ways))("one port answers %s", async (_name, createTransport) => {
    const { url } = await start();
    expect(url).toMatch(/^https:\/\/127\.0\.0\.1:\d+$/);
    expect(await createClient(Health, createTransport(url, { ca })).check({})).toMatchObject(serving);
  });

  test.each(Object.entries(ways))(
    "a client that does not trust it stays away: %s",
    async (_name, createTransport) => {
      const { url } = await start();
      const stranger = { ca: tlsFile("other-ca.pem") };
      await expect(createClient(Health, createTransport(url, stranger)).check({})).rejects.toThrow();
    },
  );

  test.each([
    [["h2", "http/1.1"], "h2"],
    [["http/1.1"], "http/1.1"],
    [undefined, false],
  ])("a client that offers %j gets %s", async (alpn, chosen) => {
    const { port } = await start();
    const socket = await shake(port, alpn === undefined ? {} : { alpn });
    expect(socket.alpnProtocol).toBe(chosen);
    if (chosen === "h2") return;
    socket.write("GET /livez HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    expect(Buffer.concat(await socket.toArray()).toString()).toMatch(/^HTTP\/1\.1 200 OK\r\n[\s\S]*ok\n/);
  });

  test("TLS older than 1.2 is refused", async () => {
    const { port } = await start();
    const old = connect({
      port,
      host: "127.0.0.1",
      ca,
      maxVersion: "TLSv1.1",
      minVersion: "TLSv1",
      ciphers: "DEFAULT:@SECLEVEL=0",
    });
    const { promise, resolve } = Promise.withResolvers<string>();
    old.once("secureConnect", () => resolve("connected")).once("error", () => resolve("refused"));
    expect(await promise).toBe("refused");
  });

  test("plain text, and a client that says nothing, are cut", async () => {
    const { port, find } = await start({ timeouts: { firstBytesMs: 50 } });
    const plain = connectPlain(port, "127.0.0.1");
    plain.on("error", () => {});
    plain.write("GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n");
    const answer = Buffer.concat(await plain.toArray().catch(() => []));
    expect(answer.toString("latin1")).not.toContain("HTTP/1.1 200");
    const silent = connectPlain(port, "127.0.0.1");
    silent.on("error", () => {});
    silent.resume();
    await new Promise((resolve) => silent.once("close", resolve));
    await find(({ message }) => message === "a TLS handshake failed");
  });

  test("a slow HTTP/1.1 head still ends with 408", async () => {
    const { port } = await start({ timeouts: { headersMs: 100 } });
    const socket = await shake(port);
    socket.write("GET /livez HTTP/1.1\r\n");
    expect(Buffer.concat(await socket.toArray()).toString()).toMatch(/^HTTP\/1\.1 408 /);
  });
});

describe("where clients need a certificate", () => {
  test.each(Object.entries(ways))("one with a good one is served: %s", async (_name, createTransport) => {
    const { url } = await start({ tls: mutual });
    const client = createClient(Health, createTransport(url, { ca, cert, key }));
    expect(await client.check({})).toMatchObject(serving);
  });

  test.each(Object.entries(ways))(
    "one without, or with a stranger's, is not: %s",
    async (_name, createTransport) => {
      const { url } = await start({ tls: mutual });
      const other = tlsPair("other-client");
      for (const tls of [{ ca }, { ca, cert: other.certificate, key: other.key }]) {
        await expect(createClient(Health, createTransport(url, tls)).check({})).rejects.toThrow();
      }
    },
  );
});

test("uses a new certificate from the next connection on, and keeps open connections", async () => {
  const { url, port, replaceTls } = await start();
  const first = serialOf(await shake(port));
  const client = createClient(
    Health,
    createGrpcTransport({ baseUrl: url, sessionManager: session(url, { ca }) }),
  );
  const open = client.watch({})[Symbol.asyncIterator]();
  expect((await open.next()).value).toMatchObject(serving);

  replaceTls({ ...tlsPair("renewed-server"), clientAuthorities: undefined });

  const renewed = serialOf(await shake(port));
  expect(renewed).not.toBe(first);
  expect(await client.check({})).toMatchObject(serving);
});

test.each(["TLSv1.2", "TLSv1.3"] as const)(
  "a session of %s does not outlive the authority of its client",
  async (maxVersion) => {
    const { port, replaceTls } = await start({ tls: mutual });
    const ask = async (session?: Buffer) => {
      const socket = connect({
        port,
        host: "127.0.0.1",
        ca,
        cert,
        key,
        maxVersion,
        ...(session === undefined ? {} : { session }),
      });
      let latest: Buffer | undefined;
      let reused: boolean | undefined;
      socket.on("secureConnect", () => {
        reused = socket.isSessionReused();
      });
      socket.on("session", (next) => {
        latest = next;
      });
      socket.write("GET /livez HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
      const answer = Buffer.concat(await socket.toArray()).toString();
      return { answer: answer.slice(0, 15), session: latest, reused };
    };
    const { session } = await ask();
    expect(session).toBeDefined();
    expect(await ask(session)).toMatchObject({ answer: "HTTP/1.1 200 OK", reused: true });
    replaceTls({ ...server, clientAuthorities: tlsFile("other-ca.pem") });
    // With an error or without one: that is up to the client's TLS.
    expect(await ask(session).catch(() => ({ answer: "" }))).toMatchObject({ answer: "" });
    replaceTls(mutual);
    expect(await ask()).toMatchObject({ answer: "HTTP/1.1 200 OK" });
  },
);

test("a stop lets a call over TLS finish, and destroys what has not shaken hands", async () => {
  const { url, port, health, close } = await start();
  const client = createClient(
    Health,
    createGrpcTransport({ baseUrl: url, sessionManager: session(url, { ca }) }),
  );
  const statuses = client.watch({})[Symbol.asyncIterator]();
  await statuses.next();
  const silent = connectPlain(port, "127.0.0.1");
  silent.on("error", () => {});
  const cut = new Promise((resolve) => silent.once("close", resolve));
  await new Promise((resolve) => silent.once("connect", resolve));
  silent.resume();
  const closed = close();
  await cut;
  health.shutdown();
  expect((await statuses.next()).value).toMatchObject({
    status: HealthCheckResponse_ServingStatus.NOT_SERVING,
  });
  expect((await statuses.next()).done).toBe(true);
  await closed;
});

test("an HTTP/2 session knows the host that was asked for", async () => {
  const { url } = await start();
  const client = http2.connect(url, { ca });
  cleanUp(() => client.close());
  const request = client.request({ ":path": "/livez", ":authority": "evil.example" });
  const { promise, resolve } = Promise.withResolvers<number | undefined>();
  request.once("response", (headers) => resolve(headers[":status"]));
  request.resume().end();
  expect(await promise).toBe(403);
});

test.each([
  ["nothing", { certificate: Buffer.of(), key: Buffer.of() }, "a file contains no certificate or key in PEM"],
  [
    "another's key",
    { ...server, key: tlsFile("renewed-server-key.pem") },
    "the key does not match the certificate",
  ],
  [
    "a key in place of the certificate",
    { certificate: server.key, key: server.key },
    "a file contains no certificate",
  ],
  [
    "authorities that are none",
    { ...server, clientAuthorities: Buffer.from("x") },
    "contains no certificate",
  ],
])("%s is not used", (_name, credentials, problem) => {
  expect(() => assertUsable({ clientAuthorities: undefined, ...credentials })).toThrow(problem);
});
