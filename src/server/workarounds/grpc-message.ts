/**
 * Re-encodes the message of a gRPC error as the gRPC protocol requires: only `%` and characters outside of printable ASCII.
 * connect-node encodes punctuation too, which grpc-js does not decode, so that its users would read
 * `content%3A must not be empty`.
 */
export function simplifyGrpcMessage(trailer: Headers | undefined): void {
  const encoded = trailer?.get("grpc-message");
  if (!encoded) return;
  const message = decodeURIComponent(encoded);
  // encodeURI throws on unpaired surrogates, which cannot be encoded.
  const escaped = message.toWellFormed().replace(/[^\x20-\x24\x26-\x7e]+/g, encodeURIComponent);
  trailer?.set("grpc-message", escaped.replace(/^ | $/g, "%20"));
}
