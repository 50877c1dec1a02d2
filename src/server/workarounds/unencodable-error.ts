import { Code } from "@connectrpc/connect";
import type { UniversalServerResponse } from "@connectrpc/connect/protocol";

/**
 * The answer to a gRPC call whose error connect cannot encode: it names what the request has, as an unknown JSON field,
 * and half a surrogate pair in it.
 *
 * @throws whatever else the error is.
 */
export function refuseUnencodable(error: unknown, contentType: string): UniversalServerResponse {
  if (!(error instanceof URIError)) throw error;
  const status = {
    "grpc-status": String(Code.InvalidArgument),
    "grpc-message": "the request must be well-formed Unicode, has half of a surrogate pair",
  };
  const header = { "content-type": contentType };
  // Of gRPC-Web trailers are part of the body, unless there is no body.
  return contentType.startsWith("application/grpc-web")
    ? { status: 200, header: new Headers({ ...header, ...status }) }
    : { status: 200, header: new Headers(header), trailer: new Headers(status), body: nothing() };
}

async function* nothing(): AsyncGenerator<Uint8Array> {}
