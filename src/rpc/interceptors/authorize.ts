import type { ContextValues, Interceptor } from "@connectrpc/connect";
import type { Caller } from "../../auth/caller.ts";
import type { AccessLevel } from "../../auth/scopes.ts";
import { ServiceError } from "../../memory/model/errors.ts";
import { startOf } from "../../util/truncate-text.ts";
import { accessRuleOf, isOpen } from "../access-rules.ts";
import { noteCall } from "../call-log.ts";
import { callerOf, kCaller } from "../caller.ts";

/** Why a caller may not do something in a domain, named as in the request; undefined: it may. */
export type Denial = (domain: string) => ServiceError | undefined;

/** Characters of a name that was refused which go into the log. */
const MAX_LOGGED_NAME = 40;
/** And into the error, which may be kept until the end of a long call: more than any domain's name has. */
const MAX_DENIED_NAME = 100;

/**
 * Decides whether the caller may do what its request asks for: before the handler runs, so that no answer, no time and no
 * error depends on whether a domain exists that the caller may not know of.
 */
export function createAuthorizeInterceptor(options: { readonly defaultDomain: string }): Interceptor {
  return (next) => async (request) => {
    if (isOpen(request.service)) return await next(request);
    const rule = accessRuleOf(request.method);
    if (rule === undefined) throw new ServiceError("PERMISSION_DENIED", "nobody may call this method");
    if (typeof rule === "string") return await next(request);
    const values = request.contextValues;
    const denialOf = createDenial(values.get(kCaller), rule.level, options.defaultDomain);
    const assertAllowed = (message: unknown) => {
      for (const domain of rule.domains(message)) assertNotDenied(denialOf, domain, values);
    };
    if (!request.stream) {
      assertAllowed(request.message);
      return await next(request);
    }
    return await next({ ...request, message: checked(request.message, assertAllowed) });
  };
}

async function* checked<T>(messages: AsyncIterable<T>, check: (message: T) => void) {
  for await (const message of messages) {
    check(message);
    yield message;
  }
}

function assertNotDenied(denialOf: Denial, domain: string, values: ContextValues): void {
  const denial = denialOf(domain);
  if (denial === undefined) return;
  noteCall({ values }, { domain: startOf(domain, MAX_LOGGED_NAME) });
  throw denial;
}

/** Decides about each domain of one call. */
export function denialIn(
  context: { readonly values: ContextValues },
  level: AccessLevel,
  defaultDomain: string,
): Denial {
  return createDenial(callerOf(context), level, defaultDomain);
}

function createDenial(caller: Caller, level: AccessLevel, defaultDomain: string): Denial {
  return (domain) => {
    if (caller.may(level, domain || defaultDomain)) return undefined;
    const name = startOf(domain, MAX_DENIED_NAME);
    const where = name === "" ? "the default domain" : `domain "${name}"`;
    return new ServiceError("PERMISSION_DENIED", `the credentials do not allow ${level} in ${where}`, {
      metadata: { domain: name, scope: level },
    });
  };
}
