import type { ContextValues, Interceptor } from "@connectrpc/connect";
import type { Caller } from "../../auth/caller.ts";
import type { AccessLevel } from "../../auth/scopes.ts";
import { ServiceError } from "../../memory/model/errors.ts";
import { LIMITS } from "../../memory/model/limits.ts";
import { truncateText } from "../../util/truncate-text.ts";
import { noteCall } from "../call-log.ts";
import { callerOf, kCaller } from "../caller.ts";
import { isPublic, methodRuleOf } from "../methods.ts";

/** Returns why the caller may not act in a domain, by the name in the request; undefined if it may. */
export type Denial = (domain: string) => ServiceError | undefined;

/** Maximum length of a domain name in the log. */
const MAX_LOGGED_NAME = 40;
/** Maximum length of a name in the error, which a long call may hold until its end. No valid name is longer. */
const MAX_DENIED_NAME = 100;

/**
 * Creates the interceptor that checks whether the caller has the access that the method needs. It runs before the handler, so
 * that no answer, time or error depends on whether a domain exists that the caller may not know of.
 */
export function createAuthorizeInterceptor(options: { readonly defaultDomain: string }): Interceptor {
  return (next) => async (request) => {
    if (isPublic(request.service)) return await next(request);
    const rule = methodRuleOf(request.method)?.access;
    if (rule === undefined) throw new ServiceError("PERMISSION_DENIED", "no caller may call this method");
    if (typeof rule === "string") return await next(request);
    const values = request.contextValues;
    const denialOf = createDenial(values.get(kCaller), rule.level, options.defaultDomain);
    const assertAllowed = (message: unknown) => {
      const domains = rule.domains(message);
      for (const domain of domains) assertNotDenied(denialOf, domain, values);
      noteCall({ values }, { domain: loggedDomains(domains, options.defaultDomain) });
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
  noteCall({ values }, { domain: truncateText(domain, MAX_LOGGED_NAME) });
  throw denial;
}

/** Returns the domains of a request for the access log; "*" for all domains. */
function loggedDomains(domains: readonly string[], defaultDomain: string): string {
  if (domains.length === 0) return "*";
  const names = domains
    .slice(0, LIMITS.searchDomains)
    .map((name) => truncateText(name, MAX_LOGGED_NAME) || defaultDomain);
  return names.join(",");
}

/** Returns the check of each domain of a call, for handlers that check per item. */
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
    const name = truncateText(domain, MAX_DENIED_NAME);
    const where = name === "" ? "the default domain" : `domain "${name}"`;
    return new ServiceError("PERMISSION_DENIED", `the credentials do not allow ${level} in ${where}`, {
      metadata: { domain: name, scope: level },
    });
  };
}
