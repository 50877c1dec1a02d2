import type { Interceptor } from "@connectrpc/connect";
import type { AddressOptions } from "./options.ts";

/**
 * Returns the options that the transports of all protocols share.
 *
 * @throws TypeError if `baseUrl` is not an HTTP URL.
 */
export function transportOptionsFrom({ baseUrl, apiKey, interceptors = [] }: AddressOptions): {
  baseUrl: string;
  interceptors: Interceptor[];
} {
  const url = httpUrlFrom(baseUrl);
  if (url === undefined) throw new TypeError(`baseUrl must be an http:// or https:// URL, got ${baseUrl}`);
  // The key is added innermost, so that interceptors that log headers do not see it.
  return {
    baseUrl: url.href,
    interceptors: apiKey ? [...interceptors, authorize(apiKey)] : [...interceptors],
  };
}

function authorize(apiKey: string): Interceptor {
  return (next) => (request) => {
    request.header.set("authorization", `Bearer ${apiKey}`);
    return next(request);
  };
}

function httpUrlFrom(text: string): URL | undefined {
  try {
    const url = new URL(text);
    return /^https?:$/.test(url.protocol) ? url : undefined;
  } catch {
    return undefined;
  }
}
