import { createRegistry } from "@bufbuild/protobuf";
import {
  type ConnectRouter,
  createConnectRouter,
  createContextKey,
  type Interceptor,
} from "@connectrpc/connect";
import {
  BadRequestSchema,
  ErrorInfoSchema,
  RetryInfoSchema,
} from "../generated/google/rpc/error_details_pb.ts";
import type { ServiceError } from "../memory/model/errors.ts";
import { connectErrorFrom } from "../rpc/interceptors/errors.ts";
import { compressions } from "./compression.ts";

/** Why the server refuses a call, whatever it asks for. */
export const kRefusal = createContextKey<ServiceError | undefined>(undefined, { description: "refusal" });

/**
 * Minimum size of a compressed answer. Connect defaults to 1 KiB. grpc-js always accepts gzip, and compressing answers of 5 KB
 * reduced the throughput on one machine from 2,300 to 1,500 calls/s, so only large answers are compressed.
 */
const DEFAULT_COMPRESS_MIN_BYTES = 32 * 1024;

export interface RpcRouterOptions {
  readonly routes: (router: ConnectRouter) => void;
  /** The first interceptor is the outermost. */
  readonly interceptors: readonly Interceptor[];
  /** Maximum size of one message in either direction, also after decompression. */
  readonly maxMessageBytes: number;
  /** Minimum size of an answer to compress, if the client accepts it. Defaults to 32 KiB. */
  readonly compressMinBytes?: number;
  /** Aborted with a ConnectError when running calls have to end. */
  readonly shutdownSignal: AbortSignal;
}

/** Creates the router of all RPCs, with the limits and the JSON rules of the contract. */
export function createRpcRouter(options: RpcRouterOptions): ConnectRouter {
  const router = createConnectRouter({
    interceptors: [...options.interceptors],
    readMaxBytes: options.maxMessageBytes,
    writeMaxBytes: options.maxMessageBytes,
    compressMinBytes: options.compressMinBytes ?? DEFAULT_COMPRESS_MIN_BYTES,
    shutdownSignal: options.shutdownSignal,
    acceptCompression: [...compressions],
    // A mistyped `dry_run` must not delete.
    jsonOptions: {
      ignoreUnknownFields: false,
      registry: createRegistry(ErrorInfoSchema, BadRequestSchema, RetryInfoSchema),
    },
    // Deep enough that a filter of 400 levels, with two messages each, gets the handler's own error. The call stack is sufficient
    // for about 1,600 levels whose innermost ones are objects in metadata.
    binaryOptions: { recursionLimit: 1_000 },
    // Refusing a call before its body is read is cheap, and runs no handler.
    requestGate(context) {
      const refusal = context.values.get(kRefusal);
      if (refusal !== undefined) throw connectErrorFrom(refusal);
    },
  });
  options.routes(router);
  return router;
}
