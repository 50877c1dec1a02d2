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

/** What requests may be compressed with, and answers are if the caller accepts it; the first is preferred. */
export const compressions: readonly Compression[] = [compressionGzip, fastBrotli].map(blameCaller);

/** Connect calls a message that ends too early Internal, and the server would log it as a defect of its own. */
function blameCaller(compression: Compression): Compression {
  return {
    ...compression,
    async decompress(bytes, readMaxBytes) {
      try {
        return await compression.decompress(bytes, readMaxBytes);
      } catch (error) {
        if (!(error instanceof ConnectError) || error.code !== Code.Internal) throw error;
        throw new ConnectError(error.rawMessage, Code.InvalidArgument, undefined, undefined, error.cause);
      }
    },
  };
}
