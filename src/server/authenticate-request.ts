import type { Authenticator } from "../auth/authenticator.ts";
import type { Caller } from "../auth/caller.ts";
import { ServiceError } from "../memory/model/errors.ts";
import type { Logger } from "../util/logger.ts";
import type { HttpRequest, HttpResponse } from "./request-body.ts";

/** Returns the caller of a request, or why the request cannot be authenticated. */
export async function authenticateRequest(
  authenticator: Pick<Authenticator, "authenticate">,
  request: HttpRequest,
  logger: Logger,
): Promise<Caller | ServiceError> {
  try {
    return await authenticator.authenticate(request.headers.authorization);
  } catch (error) {
    if (error instanceof ServiceError) return error;
    logger.error({ err: error }, "authentication failed unexpectedly");
    return new ServiceError("INTERNAL", "", { cause: error });
  }
}

/** Names the accepted credentials on a refusal, as RFC 9110 requires. */
export function requestCredentials(response: HttpResponse, { reason }: ServiceError): void {
  if (reason === "UNAUTHENTICATED") response.setHeader("www-authenticate", 'Bearer realm="memory-service"');
}
