import type { Interceptor } from "@connectrpc/connect";
import { createGrpcTransport, Http2SessionManager } from "@connectrpc/connect-node";
import { Code, createMemoryClient, type MemoryClient, memoryServiceErrorFrom } from "memory-service-client";
import { readConfig, SettingsError } from "../../app/config.ts";
import { StartupError } from "../../util/startup-error.ts";
import { UsageError } from "../usage-error.ts";
import { hostAndPort } from "./addresses.ts";
import { readClientTls } from "./client-tls.ts";
import { connectAddress } from "./probe-server.ts";

/** Maximum time that a command waits for a response. */
export const CALL_TIMEOUT_MS = 30_000;

/** A connection that was idle this long is pinged before use: middleboxes drop idle connections silently. */
const PING_INTERVAL_MS = 60_000;

/** Returns the URL of the server to use: the given one, or that of MEMORY_HOST and MEMORY_PORT. */
export async function serverUrl(given: string | undefined): Promise<string> {
  if (given !== undefined) {
    if (!URL.canParse(given) || !/^https?:$/.test(new URL(given).protocol)) {
      throw new UsageError(`--server must be a URL such as http://127.0.0.1:50051, got "${given}"`);
    }
    return given;
  }
  const { MEMORY_HOST, MEMORY_PORT, MEMORY_TLS_CERT_FILE } = readConfig(process.env).settings;
  if (MEMORY_PORT === 0) throw new SettingsError("MEMORY_PORT must be the port of the server, got 0");
  // The certificate names the host as the setting does, so do not resolve it.
  if (MEMORY_TLS_CERT_FILE !== undefined)
    return `https://${hostAndPort(certificateHost(MEMORY_HOST), MEMORY_PORT)}`;
  return `http://${hostAndPort(await connectAddress(MEMORY_HOST), MEMORY_PORT)}`;
}

/** Creates a client of the server at the URL, with the configured API key and certificates. @throws StartupError */
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

/** Runs `work` with a client of the server at the URL. @throws StartupError, or UsageError for an invalid argument. */
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

/** Replaces a wildcard address with the name under which this machine reaches itself. */
function certificateHost(host: string): string {
  return /^(0\.0\.0\.0|[0:]*::?0*)$/.test(host) ? "localhost" : host;
}

/** Converts the error of a call to the server at `url` into one whose message is a sentence for the operator. */
export function toCliError(error: unknown, url: string): unknown {
  if (error instanceof StartupError || error instanceof UsageError) return error;
  const failure = memoryServiceErrorFrom(error);
  if (failure.code === Code.InvalidArgument) {
    const all = failure.violations.map(({ field, description }) => `${field} ${description}`);
    return new UsageError(all.length > 0 ? all.join("; ") : failure.message);
  }
  return failure.code === Code.Unavailable && failure.reason === undefined
    ? new StartupError(`cannot reach a server at ${url} (${failure.message})`, { cause: error })
    : new StartupError(failure.message, { cause: error });
}
