import { Code } from "@connectrpc/connect";
import type { UniversalServerResponse } from "@connectrpc/connect/protocol";

/**
 * Returns the answer to a gRPC call whose error connect cannot encode, because the error quotes the request, for example an unknown
 * JSON field, and the quote contains an unpaired surrogate.
 *
 * @throws the error itself if it is any other error.
 */
export function refuseUnencodable(error: unknown, contentType: string): UniversalServerResponse {
  if (!(error instanceof URIError)) throw error;
  const status = {
    "grpc-status": String(Code.InvalidArgument),
    "grpc-message": "the request must be well-formed Unicode, got an unpaired surrogate",
  };
  const header = { "content-type": contentType };
  // The trailers of gRPC-Web are part of the body, unless there is no body.
  return contentType.startsWith("application/grpc-web")
    ? { status: 200, header: new Headers({ ...header, ...status }) }
    : { status: 200, header: new Headers(header), trailer: new Headers(status), body: nothing() };
}

async function* nothing(): AsyncGenerator<Uint8Array> {}
