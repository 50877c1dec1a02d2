import type { Authenticator } from "../auth/authenticator.ts";
import type { Caller } from "../auth/caller.ts";
import { ServiceError } from "../memory/model/errors.ts";
import type { Logger } from "../util/logger.ts";
import type { HttpRequest, HttpResponse } from "./request-body.ts";

/** Who calls, or why that cannot be told. */
export async function whoCalls(
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

/** Says on a refusal which credentials there are, as RFC 9110 asks for. */
export function demandCredentials(response: HttpResponse, { reason }: ServiceError): void {
  if (reason === "UNAUTHENTICATED") response.setHeader("www-authenticate", 'Bearer realm="memory-service"');
}
