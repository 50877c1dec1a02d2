import { copyFile, rename } from "node:fs/promises";
import { join } from "node:path";
import { connect } from "node:tls";
import { expect, test } from "vitest";
import { startFakeOllama } from "../../qa/fakes/ollama/index.ts";
import { createDataDirectory } from "../support/postgres/data-directory.ts";
import { runProgram, startServerProcess } from "../support/server/server-process.ts";
import { tlsFile, tlsPath } from "../support/server/tls.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";

/** Returns the serial number of the certificate that the server presents. */
function serialAt(port: number): Promise<string> {
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  const ca = tlsFile("ca.pem");
  const client = { cert: tlsFile("client.pem"), key: tlsFile("client-key.pem") };
  const socket = connect({ port, host: "127.0.0.1", ca, ...client }, () => {
    resolve(socket.getPeerCertificate().serialNumber);
    socket.destroy();
  });
  socket.once("error", reject);
  return promise;
}

test("commands call a server with mutual TLS, which reloads a renewed certificate", {
  timeout: 120_000,
}, async () => {
  await using ollama = await startFakeOllama({ installed: [] });
  await using data = await createDataDirectory();
  const { path: directory, remove } = await temporaryDirectory();
  /** Replaces a file atomically; the server would also read half a file. */
  const install = async (name: string) => {
    for (const suffix of [".pem", "-key.pem"]) {
      await copyFile(tlsPath(`${name}${suffix}`), join(directory, "new"));
      await rename(join(directory, "new"), join(directory, `used${suffix}`));
    }
  };
  await install("server");
  const tls = {
    MEMORY_TLS_CERT_FILE: join(directory, "used.pem"),
    MEMORY_TLS_KEY_FILE: join(directory, "used-key.pem"),
    MEMORY_TLS_CLIENT_CA_FILE: tlsPath("ca.pem"),
  };
  const env = { ...data.env, ...tls, OLLAMA_API_URL: ollama.url, MEMORY_PULL_MODEL: "false" };
  await using server = await startServerProcess({ env });
  expect(server.url).toMatch(/^https:/);

  const port = { MEMORY_PORT: String(server.port) };
  const client = {
    MEMORY_CLIENT_CERT_FILE: tlsPath("client.pem"),
    MEMORY_CLIENT_KEY_FILE: tlsPath("client-key.pem"),
  };
  const known = { ...port, ...client, MEMORY_CA_FILE: tlsPath("ca.pem") };
  expect(await runProgram(["healthcheck"], { env: { ...tls, ...known } })).toMatchObject({
    code: 0,
    stdout: expect.stringMatching(/^ready/),
  });
  const store = ["store", "tea is green", "--id", "m1"];
  expect(await runProgram(store, { env: { ...tls, ...known } })).toMatchObject({ code: 0, stderr: "" });
  const unverified = await runProgram(["get", "m1", "--server", server.url], { env: port });
  expect(unverified).toMatchObject({
    code: 1,
    stderr: "memory-service: self-signed certificate in certificate chain\n",
  });

  const first = await serialAt(server.port);
  // The server presents the old certificate until both files have been replaced.
  await install("renewed-server");
  await server.whenLogged(({ msg }) => msg === "reloaded the certificate");
  expect(await serialAt(server.port)).not.toBe(first);
  await copyFile(tlsPath("README.md"), tls.MEMORY_TLS_CERT_FILE);
  await server.whenLogged(
    ({ level, msg }) => level === 50 && /^cannot reload the certificate/.test(msg ?? ""),
  );
  expect(await serialAt(server.port)).not.toBe(first);
  expect((await server.stop()).code).toBe(0);
  await remove();
});

test("a server does not start with a certificate and key that do not match", async () => {
  const env = {
    MEMORY_TLS_CERT_FILE: tlsPath("server.pem"),
    MEMORY_TLS_KEY_FILE: tlsPath("client-key.pem"),
  };
  const { code, stderr } = await runProgram(["serve"], { env });
  expect(code).toBe(1);
  expect(stderr).toMatch(
    /^memory-service: the certificate in .* cannot be used: the key does not match the certificate\n$/,
  );
});
