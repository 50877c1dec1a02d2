import { AsyncLocalStorage } from "node:async_hooks";
import { promisify } from "node:util";
import { brotliCompress, constants as zlib } from "node:zlib";
import { Code, ConnectError } from "@connectrpc/connect";
import type { Compression } from "@connectrpc/connect/protocol";
import { compressionBrotli, compressionGzip } from "@connectrpc/connect-node";

/** Brotli's default quality is meant for files: it takes seconds for what a search answers. */
const fastBrotli: Compression = {
  ...compressionBrotli,
  compress: async (bytes) =>
    new Uint8Array(await promisify(brotliCompress)(bytes, { params: { [zlib.BROTLI_PARAM_QUALITY]: 4 } })),
};

/**
 * Told how many bytes each message of the call under way has grown by when it was decompressed.
 *
 * @throws ConnectError to refuse it.
 */
export const countGrowth = new AsyncLocalStorage<(bytes: number) => void>();

/** What requests may be compressed with, and answers are if the caller accepts it; the first is preferred. */
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

/** Connect calls a message that ends too early Internal, and the server would log it as a defect of its own. */
async function decompress(compression: Compression, bytes: Uint8Array, readMaxBytes: number) {
  try {
    return await compression.decompress(bytes, readMaxBytes);
  } catch (error) {
    if (!(error instanceof ConnectError) || error.code !== Code.Internal) throw error;
    throw new ConnectError(error.rawMessage, Code.InvalidArgument, undefined, undefined, error.cause);
  }
}
