import http from "node:http";
import https from "node:https";
import {
  createConnectTransport,
  createGrpcTransport,
  createGrpcWebTransport,
  Http2SessionManager,
} from "@connectrpc/connect-node";
import { transportOptionsFrom } from "./address.js";
import { createClientOn } from "./client.js";

/** @import { AddressOptions, Protocol } from "./index.js" */

export { Code } from "@connectrpc/connect";
export { MemoryServiceError, memoryServiceErrorFrom } from "./errors.js";
export { createMemoryId } from "./memory-id.js";

/** After this long without a word a connection is tried before it is used: middle boxes forget silently. */
const pingIntervalMs = 60_000;

/** @type {typeof import("./index.js").createMemoryClient} */
export function createMemoryClient(options) {
  if (options.transport !== undefined) {
    return createClientOn(options, { transport: options.transport, close: () => {} });
  }
  return createClientOn(options, connect(options, options.protocol ?? "grpc"));
}

/**
 * @param {AddressOptions} options
 * @param {Protocol} protocol
 */
function connect(options, protocol) {
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
      const create = protocol === "connect" ? createConnectTransport : createGrpcWebTransport;
      return {
        transport: create({ ...common, httpVersion: "1.1", nodeOptions: { agent } }),
        close: () => agent.destroy(),
      };
    }
    default:
      throw new TypeError(`protocol must be grpc, connect or grpc-web, is ${protocol}`);
  }
}
