import { AsyncLocalStorage } from "node:async_hooks";
import { promisify } from "node:util";
import { brotliCompress, constants as zlib } from "node:zlib";
import { Code, ConnectError } from "@connectrpc/connect";
import type { Compression } from "@connectrpc/connect/protocol";
import { compressionBrotli, compressionGzip } from "@connectrpc/connect-node";

/** Brotli's default quality is meant for files, and takes seconds for the answer of a search. */
const fastBrotli: Compression = {
  ...compressionBrotli,
  compress: async (bytes) =>
    new Uint8Array(await promisify(brotliCompress)(bytes, { params: { [zlib.BROTLI_PARAM_QUALITY]: 4 } })),
};

/**
 * Holds the function of the running call that counts how many bytes each message grows by when it is decompressed.
 *
 * @throws ConnectError to refuse the message.
 */
export const countGrowth = new AsyncLocalStorage<(bytes: number) => void>();

/** The compressions of requests, and of answers if the caller accepts them. The first is preferred. */
export const compressions: readonly Compression[] = [compressionGzip, fastBrotli].map(counted);

function counted(compression: Compression): Compression {
  return {
    ...compression,
    async decompress(bytes, readMaxBytes) {
      const message = await decompress(compression, bytes, readMaxBytes);
      countGrowth.getStore()?.(Math.max(0, message.length - bytes.length));
      return message;
    },
  };
}

/** Reports a truncated message as InvalidArgument. Connect reports Internal, which the server would log as its own defect. */
async function decompress(compression: Compression, bytes: Uint8Array, readMaxBytes: number) {
  try {
    return await compression.decompress(bytes, readMaxBytes);
  } catch (error) {
    if (!(error instanceof ConnectError) || error.code !== Code.Internal) throw error;
    throw new ConnectError(error.rawMessage, Code.InvalidArgument, undefined, undefined, error.cause);
  }
}
