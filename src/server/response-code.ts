import type { Code } from "@connectrpc/connect";
import type { UniversalServerResponse } from "@connectrpc/connect/protocol";
import { codeFromString } from "@connectrpc/connect/protocol-connect";

/** The outcome of a response as the client sees it: a code, success (undefined code), or only an HTTP status. */
export type ResponseOutcome = { readonly code: Code | undefined } | { readonly status: number };

const compressedFlag = 0b1;
const connectEndFlag = 0b10;
const grpcWebTrailerFlag = 0b1000_0000;
const envelopeHeadBytes = 5;

/**
 * Passes a response through and reads its outcome from the encoded bytes. This covers calls that fail before any interceptor
 * runs, such as undecodable bodies and refused hosts.
 *
 * Call `outcome` after the body has been sent. It returns undefined for a compressed end of a Connect stream, which does not show
 * the code.
 *
 * @param onBodyEnd Called when the trailers are known and not yet sent.
 */
export function observeOutcome(
  response: UniversalServerResponse,
  onBodyEnd: () => void = () => undefined,
): {
  readonly response: UniversalServerResponse;
  readonly outcome: () => ResponseOutcome | undefined;
} {
  let last: Uint8Array | undefined;
  async function* remember(body: AsyncIterable<Uint8Array>) {
    for await (const chunk of body) {
      last = chunk;
      yield chunk;
    }
    onBodyEnd();
  }
  return {
    response: response.body === undefined ? response : { ...response, body: remember(response.body) },
    outcome: () => outcomeOf(response, last),
  };
}

function outcomeOf(
  response: UniversalServerResponse,
  last: Uint8Array | undefined,
): ResponseOutcome | undefined {
  const contentType = response.header?.get("content-type") ?? "";
  if (contentType.startsWith("application/grpc-web")) return fromGrpcWeb(response, last);
  if (contentType.startsWith("application/grpc")) return fromGrpcStatus(response.trailer?.get("grpc-status"));
  if (contentType.startsWith("application/connect+")) return last && fromConnectEnd(last);
  if (response.status === 200) return { code: undefined };
  const compressed = response.header?.has("content-encoding") ?? false;
  if (compressed || last === undefined) return { status: response.status };
  const code = codeFromJson(last, (body) => body);
  return code === undefined ? { status: response.status } : { code };
}

function fromGrpcWeb(response: UniversalServerResponse, last: Uint8Array | undefined) {
  const inHeader = response.header?.get("grpc-status");
  if (inHeader) return fromGrpcStatus(inHeader);
  if (last === undefined || ((last[0] ?? 0) & grpcWebTrailerFlag) === 0) return undefined;
  const trailer = new TextDecoder().decode(last.subarray(envelopeHeadBytes));
  return fromGrpcStatus(/^grpc-status:\s*(\d+)/im.exec(trailer)?.[1]);
}

function fromGrpcStatus(status: string | null | undefined): ResponseOutcome | undefined {
  if (status === null || status === undefined) return undefined;
  // The numbers of Code are those of gRPC, except for 0, which means success.
  return { code: status === "0" ? undefined : Number(status) };
}

function fromConnectEnd(last: Uint8Array): ResponseOutcome | undefined {
  const flags = last[0] ?? 0;
  if ((flags & connectEndFlag) === 0 || (flags & compressedFlag) !== 0) return undefined;
  return { code: codeFromJson(last.subarray(envelopeHeadBytes), (end) => property(end, "error")) };
}

function codeFromJson(bytes: Uint8Array, errorIn: (json: unknown) => unknown): Code | undefined {
  try {
    const code = property(errorIn(JSON.parse(new TextDecoder().decode(bytes))), "code");
    return typeof code === "string" ? codeFromString(code) : undefined;
  } catch {
    return undefined;
  }
}

function property(value: unknown, name: string): unknown {
  return typeof value === "object" && value !== null ? Reflect.get(value, name) : undefined;
}
