import http from "node:http";
import https from "node:https";
import {
  createConnectTransport,
  createGrpcTransport,
  createGrpcWebTransport,
  Http2SessionManager,
} from "@connectrpc/connect-node";
import { transportOptionsFrom } from "./address.ts";
import { type Connection, createClientOn } from "./create-client.ts";
import type { MemoryClient } from "./memory-client.ts";
import type { AddressOptions, MemoryClientOptions, Protocol } from "./options.ts";

export * from "./public.ts";

/** A connection that was idle for this long is checked before its next use: middleboxes drop connections silently. */
const pingIntervalMs = 60_000;

/**
 * Creates a client. It sends nothing and opens no connection before its first call.
 *
 * @throws TypeError if an option is missing or invalid, or if this runtime does not support the `protocol`.
 */
export function createMemoryClient(options: MemoryClientOptions): MemoryClient {
  if (options.transport !== undefined) {
    return createClientOn({ transport: options.transport, close: () => {} }, options);
  }
  return createClientOn(connect(options, options.protocol ?? "grpc"), options);
}

function connect(options: AddressOptions, protocol: Protocol): Connection {
  const common = transportOptionsFrom(options);
  switch (protocol) {
    case "grpc": {
      const sessionManager = new Http2SessionManager(common.baseUrl, { pingIntervalMs });
      return {
        transport: createGrpcTransport({ ...common, sessionManager }),
        close: () => sessionManager.abort(),
      };
    }
    case "connect":
    case "grpc-web": {
      const agent = new (common.baseUrl.startsWith("https:") ? https : http).Agent({ keepAlive: true });
      const createTransport = protocol === "connect" ? createConnectTransport : createGrpcWebTransport;
      return {
        transport: createTransport({ ...common, httpVersion: "1.1", nodeOptions: { agent } }),
        close: () => agent.destroy(),
      };
    }
    default:
      throw new TypeError(`protocol must be "grpc", "connect" or "grpc-web", got "${protocol}"`);
  }
}
