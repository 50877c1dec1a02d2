/**
 * Encodes the message of a gRPC error again, as the gRPC protocol asks for: only what is not printable ASCII,
 * and `%`. Connect encodes punctuation too, which grpc-js does not decode: its users would read
 * `content%3A must not be empty`.
 */
export function simplifyGrpcMessage(trailer: Headers | undefined): void {
  const encoded = trailer?.get("grpc-message");
  if (!encoded) return;
  const message = decodeURIComponent(encoded);
  // encodeURI would throw on them, and they cannot travel anyway.
  const escaped = message.toWellFormed().replace(/[^\x20-\x24\x26-\x7e]+/g, encodeURIComponent);
  trailer?.set("grpc-message", escaped.replace(/^ | $/g, "%20"));
}
