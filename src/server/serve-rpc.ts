import { Code, createContextValues } from "@connectrpc/connect";
import type { UniversalHandler } from "@connectrpc/connect/protocol";
import { universalRequestFromNodeRequest, universalResponseToNodeResponse } from "@connectrpc/connect-node";
import type { Authenticator } from "../auth/authenticator.ts";
import { UNAUTHENTICATED } from "../auth/caller.ts";
import { ServiceError } from "../memory/model/errors.ts";
import { type Call, kCall } from "../rpc/call-log.ts";
import { kCaller } from "../rpc/caller.ts";
import { connectErrorFrom } from "../rpc/interceptors/errors.ts";
import { isPublic } from "../rpc/methods.ts";
import type { Logger } from "../util/logger.ts";
import { authenticateRequest, requestCredentials } from "./authenticate-request.ts";
import type { CallLimiter, CallSlot } from "./call-limit.ts";
import { countGrowth } from "./compression.ts";
import { type Refusal, refusalError } from "./host-guard.ts";
import { type HttpRequest, type HttpResponse, requestBody } from "./request-body.ts";
import { observeOutcome, type ResponseOutcome } from "./response-code.ts";
import { isSent, isStreamEnd, withReadTimeout } from "./response-stream.ts";
import { kRefusal } from "./rpc-router.ts";
import { removeDistantDeadline } from "./workarounds/distant-deadline.ts";
import { simplifyGrpcMessage } from "./workarounds/grpc-message.ts";
import { explainMediaType } from "./workarounds/media-type.ts";
import { refuseUnencodable } from "./workarounds/unencodable-error.ts";

/** Serves one call of an RPC. `refusal` is set if its host or origin is not allowed. */
export type ServeRpc = (
  rpc: UniversalHandler,
  request: HttpRequest,
  response: HttpResponse,
  call: Call,
  refusal: Refusal | undefined,
) => void;

export function createRpcServer(options: {
  readonly limiter: CallLimiter;
  readonly bodyTimeouts: { readonly requestMs: number; readonly streamMs: number };
  /** Undefined if callers need no credentials. */
  readonly authenticator: Pick<Authenticator, "authenticate"> | undefined;
  /** Called once when a call has ended. */
  readonly onEnd: (call: Call, outcome: ResponseOutcome) => void;
  readonly logger: Logger;
}): ServeRpc {
  const { limiter, bodyTimeouts, authenticator, onEnd, logger } = options;

  /** Admits unary probes always, so that many health streams cannot make the server look dead. */
  function enter({ service, method }: UniversalHandler): CallSlot | ServiceError | undefined {
    if (!isPublic(service)) return limiter.enter("work");
    return method.methodKind === "unary" ? undefined : limiter.enter("public");
  }

  /** Returns the context of a call: its caller, or why it is refused. */
  async function contextOf(
    rpc: UniversalHandler,
    request: HttpRequest,
    response: HttpResponse,
    call: Call,
    refusal: ServiceError | undefined,
  ) {
    const values = createContextValues().set(kCall, call);
    if (refusal !== undefined) return values.set(kCaller, UNAUTHENTICATED).set(kRefusal, refusal);
    if (authenticator === undefined) return values;
    const caller = isPublic(rpc.service)
      ? UNAUTHENTICATED
      : await authenticateRequest(authenticator, request, logger);
    if (caller instanceof ServiceError) {
      requestCredentials(response, caller);
      return values.set(kCaller, UNAUTHENTICATED).set(kRefusal, caller);
    }
    if (caller.name !== "") call.facts.caller = caller.name;
    return values.set(kCaller, caller);
  }

  return (rpc, request, response, call, refusal) => {
    const slot = enter(rpc);
    const leave = () => {
      if (!(slot instanceof ServiceError)) slot?.leave();
    };
    const hold = (bytes: number) => {
      try {
        if (!(slot instanceof ServiceError)) slot?.hold(bytes);
      } catch (error) {
        throw connectErrorFrom(error);
      }
    };
    let outcome: () => ResponseOutcome | undefined = () => undefined;
    response.once("close", () => {
      leave();
      onEnd(
        call,
        isSent(request, response) ? outcomeOf(call, outcome()) : { code: call.code ?? Code.Canceled },
      );
    });
    const run = async () => {
      const refused =
        refusal !== undefined ? refusalError(refusal) : slot instanceof ServiceError ? slot : undefined;
      const values = await contextOf(rpc, request, response, call, refused);
      const isRefused = values.get(kRefusal) !== undefined;
      // A refused client that does not read the answer must not occupy a slot.
      if (isRefused) leave();
      const universal = universalRequestFromNodeRequest(request, response, undefined, values);
      removeDistantDeadline(universal.header);
      const { methodKind } = rpc.method;
      const perWait = methodKind === "client_streaming" || methodKind === "bidi_streaming";
      const body = requestBody(request, {
        timeoutMs: perWait ? bodyTimeouts.streamMs : bodyTimeouts.requestMs,
        perWait,
        hold,
      });
      const answer = await rpc({ ...universal, body }).then(explainMediaType, (error: unknown) =>
        refuseUnencodable(error, request.headers["content-type"] ?? ""),
      );
      const observed = observeOutcome(answer, () => simplifyGrpcMessage(answer.trailer));
      outcome = observed.outcome;
      const isStream = methodKind === "server_streaming" || methodKind === "bidi_streaming";
      await universalResponseToNodeResponse(
        isStream && !isRefused
          ? observed.response
          : withReadTimeout(observed.response, request, response, bodyTimeouts.requestMs),
        response,
      );
    };
    countGrowth.run(hold, run).catch((error: unknown) => {
      // A client that has disconnected is no error.
      if (!response.destroyed && !isStreamEnd(error)) {
        logger.error({ err: error, method: call.method, requestId: call.requestId }, "response failed");
      }
      response.destroy();
    });
  };
}

/**
 * Returns the outcome of a response that was sent. A compressed end of stream does not show its code; it always carries an error,
 * since an end without one is too short to compress.
 */
function outcomeOf(call: Call, sent: ResponseOutcome | undefined): ResponseOutcome {
  if (sent === undefined) return { code: call.code ?? Code.Unknown };
  return "status" in sent && call.code !== undefined ? { code: call.code } : sent;
}
