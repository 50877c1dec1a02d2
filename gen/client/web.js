import { createConnectTransport, createGrpcWebTransport } from "@connectrpc/connect-web";
import { transportOptionsFrom } from "./address.js";
import { createClientOn } from "./client.js";

/** @import { AddressOptions, Protocol } from "./index.js" */

export { Code } from "@connectrpc/connect";
export { MemoryServiceError, memoryServiceErrorFrom } from "./errors.js";
export { createMemoryId } from "./memory-id.js";

/** @type {typeof import("./index.js").createMemoryClient} */
export function createMemoryClient(options) {
  const transport = options.transport ?? connect(options, options.protocol ?? "connect");
  // fetch owns its connections: there is nothing to close.
  return createClientOn(options, { transport, close: () => {} });
}

/**
 * @param {AddressOptions} options
 * @param {Protocol} protocol
 */
function connect(options, protocol) {
  const common = transportOptionsFrom(options);
  switch (protocol) {
    case "connect":
      return createConnectTransport(common);
    case "grpc-web":
      return createGrpcWebTransport(common);
    case "grpc":
      throw new TypeError(
        "protocol grpc needs Node: fetch cannot read HTTP/2 trailers; use connect or grpc-web",
      );
    default:
      throw new TypeError(`protocol must be connect or grpc-web, is ${protocol}`);
  }
}
