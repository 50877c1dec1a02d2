import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { mkdir, writeFile } from "node:fs/promises";
import { connect, createServer, type LookupFunction } from "node:net";
import { join } from "node:path";
import { promisify } from "node:util";
import { createClient } from "@connectrpc/connect";
import { createConnectTransport, createGrpcTransport } from "@connectrpc/connect-node";
import {
  MemoryService,
  SearchMode,
  StoreOutcome,
} from "memory-service-client/memoryservice/v1/memory_service_pb.js";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { SETTINGS } from "../../src/app/settings.ts";
import { blockOf, blocksOf, readPage } from "../support/documents.ts";
import { createDataDirectory, type ServerData } from "../support/postgres/data-directory.ts";
import { type ServerProcess, startServerProcess } from "../support/server/server-process.ts";
import { tlsFile, tlsPath } from "../support/server/tls.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";

vi.setConfig({ testTimeout: 60_000, hookTimeout: 120_000 });

const page = readPage("docs/production.md");
const HOST = "memory.example.com";
const GRACE_SECONDS = Number(SETTINGS.MEMORY_SHUTDOWN_GRACE_MS.default) / 1_000;

let directory: Awaited<ReturnType<typeof temporaryDirectory>>;

beforeAll(async () => {
  directory = await temporaryDirectory();
});

afterAll(async () => {
  await directory?.remove();
});

describe("the systemd unit", () => {
  const [environment = "", unit = ""] = blocksOf(page, "ini");

  test("sets only variables that are settings", () => {
    const names = [...environment.matchAll(/^(\w+)=/gm)].map(([, name]) => name ?? "");
    expect(names).not.toEqual([]);
    expect(names.filter((name) => !(name in SETTINGS))).toEqual([]);
  });

  test("allows more time than a graceful shutdown takes", () => {
    expect(Number(/^TimeoutStopSec=(\d+)$/m.exec(unit)?.[1])).toBeGreaterThan(GRACE_SECONDS + 1);
  });

  test.each(installed("/usr/bin/systemd-analyze"))("passes %s", async (systemdAnalyze) => {
    const path = join(directory.path, "memory-service.service");
    // systemd-analyze checks that the program exists.
    await writeFile(path, unit.replace("/usr/bin/node", process.execPath));
    const { stdout, stderr } = await promisify(execFile)(systemdAnalyze, ["verify", path]);
    expect(`${stdout}${stderr}`).not.toContain("memory-service.service");
  });
});

describe("the Kubernetes manifests", () => {
  const manifests = blockOf(page, "yaml");

  test("disable service links and allow more time than a graceful shutdown takes", () => {
    expect(manifests).toMatch(/^ {6}enableServiceLinks: false$/m);
    const preStop = Number(/command: \["sleep", "(\d+)"\]/.exec(manifests)?.[1]);
    const grace = Number(/terminationGracePeriodSeconds: (\d+)/.exec(manifests)?.[1]);
    expect(grace).toBeGreaterThan(preStop + GRACE_SECONDS + 1);
  });

  test("use the port and the settings of the server", () => {
    expect(manifests).toContain(`containerPort: ${SETTINGS.MEMORY_PORT.default}\n`);
    const names = [...manifests.matchAll(/- name: ([A-Z_]+)$/gm)].map(([, name]) => name ?? "");
    expect(names).not.toEqual([]);
    expect(names.filter((name) => !(name in SETTINGS))).toEqual([]);
  });
});

interface Proxy {
  readonly name: string;
  readonly program: string;
  /** Writes the configuration of the page, adapted to this machine, and returns the arguments of the program. */
  configure(folder: string, port: number, serverPort: number): Promise<string[]>;
}

const proxies: Proxy[] = [
  {
    name: "nginx",
    program: "/usr/sbin/nginx",
    async configure(folder, port, serverPort) {
      const site = blockOf(page, "nginx")
        .replace("127.0.0.1:50051", `127.0.0.1:${serverPort}`)
        .replace("listen 443 ", `listen 127.0.0.1:${port} `)
        .replace(/ssl_certificate \S+;/, `ssl_certificate ${tlsPath("server.pem")};`)
        .replace(/ssl_certificate_key \S+;/, `ssl_certificate_key ${tlsPath("server-key.pem")};`);
      const temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map((name) => `${name}_temp_path ${folder}/${name};`)
        .join(" ");
      await writeFile(
        join(folder, "nginx.conf"),
        `pid ${folder}/pid; daemon off; events {} http { access_log off; ${temporary}\n${site}\n}\n`,
      );
      return ["-e", join(folder, "error.log"), "-c", join(folder, "nginx.conf")];
    },
  },
  {
    name: "Caddy",
    program: "/usr/bin/caddy",
    async configure(folder, port, serverPort) {
      const site = blockOf(page, "caddyfile")
        .replace("127.0.0.1:50051", `127.0.0.1:${serverPort}`)
        .replace(
          `${HOST} {`,
          `https://${HOST}:${port} {\n\ttls ${tlsPath("server.pem")} ${tlsPath("server-key.pem")}`,
        );
      await writeFile(
        join(folder, "Caddyfile"),
        `{\n\tadmin off\n\tauto_https off\n\tdefault_bind 127.0.0.1\n}\n${site}`,
      );
      return ["run", "--adapter", "caddyfile", "--config", join(folder, "Caddyfile")];
    },
  },
];

describe.each(proxies.filter(({ program }) => existsSync(program)))("behind $name", (proxy) => {
  let data: ServerData;
  let server: ServerProcess;
  let baseUrl: string;
  let stop: () => Promise<unknown>;

  beforeAll(async () => {
    data = await createDataDirectory();
    server = await startServerProcess({ env: { ...data.env, MEMORY_ALLOWED_HOSTS: HOST } });
    const folder = join(directory.path, proxy.name);
    await mkdir(folder);
    const port = await freePort();
    const args = await proxy.configure(folder, port, server.port);
    const child = spawn(proxy.program, args, { stdio: "ignore", env: { ...process.env, HOME: folder } });
    const exited = once(child, "exit");
    stop = () => {
      child.kill();
      return exited;
    };
    await waitUntilListening(port);
    baseUrl = `https://${HOST}:${port}`;
  });

  afterAll(async () => {
    await stop?.();
    await server?.[Symbol.asyncDispose]();
    await data?.[Symbol.asyncDispose]();
  });

  /** Resolves every name to this machine. */
  const lookup: LookupFunction = (_name, { all }, found) =>
    all ? found(null, [{ address: "127.0.0.1", family: 4 }]) : found(null, "127.0.0.1", 4);
  const nodeOptions = { ca: tlsFile("ca.pem"), checkServerIdentity: () => undefined, lookup };

  test.each([
    ["gRPC", () => createGrpcTransport({ baseUrl, nodeOptions })],
    ["Connect over HTTP/2", () => createConnectTransport({ baseUrl, nodeOptions, httpVersion: "2" })],
    ["Connect over HTTP/1.1", () => createConnectTransport({ baseUrl, nodeOptions, httpVersion: "1.1" })],
  ])("stores, searches, streams and imports over %s", async (protocol, transport) => {
    const client = createClient(MemoryService, transport());
    const domain = `proxy-${protocol.toLowerCase().replaceAll(/[^a-z0-9]+/g, "-")}`;
    const stored = await client.store({ domain, id: "soup", content: "The canteen serves soup" });
    expect(stored.outcome).toBe(StoreOutcome.CREATED);

    const { hits } = await client.search({ domain, query: "soup", mode: SearchMode.TEXT });
    expect(hits.map(({ memory }) => memory?.id)).toEqual(["soup"]);

    const cases = [];
    const stream = client.streamSearch({ domain, query: "soup", mode: SearchMode.TEXT });
    for await (const { item } of stream) cases.push(item.case);
    expect(cases).toEqual(["info", "hit", "summary"]);

    const request = async function* () {
      yield { item: { case: "options" as const, value: { domain: `${domain}-copy` } } };
      for await (const { item } of client.export({ domain })) {
        if (item.case === "record") yield { item };
      }
    };
    expect(await client.import(request())).toMatchObject({ received: 1n, created: 1n });
  });
});

/** A program as the only row of a table of tests, if this machine has it. */
function installed(path: string): string[] {
  return existsSync(path) ? [path] : [];
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  server.close();
  await once(server, "close");
  if (address === null || typeof address === "string") throw new Error("the listener has no port");
  return address.port;
}

async function waitUntilListening(port: number): Promise<void> {
  await vi.waitFor(
    async () => {
      const socket = connect(port, "127.0.0.1");
      try {
        await once(socket, "connect");
      } finally {
        socket.destroy();
      }
    },
    { timeout: 20_000, interval: 50 },
  );
}
