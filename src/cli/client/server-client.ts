import type { Interceptor } from "@connectrpc/connect";
import { createGrpcTransport, Http2SessionManager } from "@connectrpc/connect-node";
import { Code, createMemoryClient, type MemoryClient, memoryServiceErrorFrom } from "memory-service-client";
import { readConfig, SettingsError } from "../../app/config.ts";
import { StartupError } from "../../memory/model/errors.ts";
import { UsageError } from "../usage-error.ts";
import { hostAndPort } from "./addresses.ts";
import { readClientTls } from "./client-tls.ts";
import { connectAddress } from "./probe-server.ts";

/** How long a command waits for an answer. */
export const CALL_TIMEOUT_MS = 30_000;

/** After this long without a word a connection is tried before it is used: middle boxes forget silently. */
const PING_INTERVAL_MS = 60_000;

/** The URL of the server to use: the one that was given, or the one at MEMORY_HOST and MEMORY_PORT. */
export async function serverUrl(given: string | undefined): Promise<string> {
  if (given !== undefined) {
    if (!URL.canParse(given) || !/^https?:$/.test(new URL(given).protocol)) {
      throw new UsageError(`--server must be a URL as http://127.0.0.1:50051, is "${given}"`);
    }
    return given;
  }
  const { MEMORY_HOST, MEMORY_PORT, MEMORY_TLS_CERT_FILE } = readConfig(process.env).settings;
  if (MEMORY_PORT === 0) throw new SettingsError("MEMORY_PORT must be the port of the server, is 0");
  // A certificate is for a name, as the setting has it.
  if (MEMORY_TLS_CERT_FILE !== undefined) return `https://${hostAndPort(named(MEMORY_HOST), MEMORY_PORT)}`;
  return `http://${hostAndPort(await connectAddress(MEMORY_HOST), MEMORY_PORT)}`;
}

/** A client of the server at the URL, with the API key and the certificates of the settings. @throws StartupError */
export async function openServerClient(
  url: string,
): Promise<{ readonly client: MemoryClient; close(): void }> {
  const { settings } = readConfig(process.env);
  const authorize: Interceptor = (next) => (request) => {
    if (settings.MEMORY_API_KEY) request.header.set("authorization", `Bearer ${settings.MEMORY_API_KEY}`);
    return next(request);
  };
  const sessionManager = new Http2SessionManager(
    url,
    { pingIntervalMs: PING_INTERVAL_MS },
    await readClientTls(settings),
  );
  const transport = createGrpcTransport({ baseUrl: url, sessionManager, interceptors: [authorize] });
  const client = createMemoryClient({ transport });
  return {
    client,
    close() {
      client.close();
      sessionManager.abort();
    },
  };
}

/** Runs `work` with a client of the server at the URL. @throws StartupError, or UsageError if the server says that. */
export async function withClient<T>(
  url: string,
  work: (client: MemoryClient["raw"]) => Promise<T>,
): Promise<T> {
  const { client, close } = await openServerClient(url);
  try {
    return await work(client.raw);
  } catch (error) {
    throw toCliError(error, url);
  } finally {
    close();
  }
}

/** Where an address stands for all of this machine, one of those is named. */
function named(host: string): string {
  return /^(0\.0\.0\.0|[0:]*::?0*)$/.test(host) ? "localhost" : host;
}

/** An error of a call as a sentence for the operator; `url`: who was asked. */
export function toCliError(error: unknown, url: string): unknown {
  if (error instanceof StartupError || error instanceof UsageError) return error;
  const failure = memoryServiceErrorFrom(error);
  if (failure.code === Code.InvalidArgument) {
    const all = failure.violations.map(({ field, description }) => `${field} ${description}`);
    return new UsageError(all.length > 0 ? all.join("; ") : failure.message);
  }
  return failure.code === Code.Unavailable && failure.reason === undefined
    ? new StartupError(`no server answers at ${url} (${failure.message})`, { cause: error })
    : new StartupError(failure.message, { cause: error });
}
