import type { Transport } from "@connectrpc/connect";
import { createConnectTransport, createGrpcWebTransport } from "@connectrpc/connect-web";
import { transportOptionsFrom } from "./address.ts";
import { createClientOn } from "./create-client.ts";
import type { MemoryClient } from "./memory-client.ts";
import type { AddressOptions, MemoryClientOptions, Protocol } from "./options.ts";

export * from "./public.ts";

/**
 * Creates a client. It sends nothing and opens no connection before its first call.
 *
 * @throws TypeError if an option is missing or invalid, or if this runtime does not support the `protocol`.
 */
export function createMemoryClient(options: MemoryClientOptions): MemoryClient {
  const transport = options.transport ?? connect(options, options.protocol ?? "connect");
  // There is nothing to close: fetch owns the connections.
  return createClientOn({ transport, close: () => {} }, options);
}

function connect(options: AddressOptions, protocol: Protocol): Transport {
  const common = transportOptionsFrom(options);
  switch (protocol) {
    case "connect":
      return createConnectTransport(common);
    case "grpc-web":
      return createGrpcWebTransport(common);
    case "grpc":
      throw new TypeError(
        'protocol "grpc" needs Node because fetch cannot read HTTP/2 trailers; use "connect" or "grpc-web"',
      );
    default:
      throw new TypeError(`protocol must be "connect" or "grpc-web", got "${protocol}"`);
  }
}
