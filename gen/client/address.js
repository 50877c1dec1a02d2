/** @import { Interceptor } from "@connectrpc/connect" */
/** @import { AddressOptions } from "./index.js" */

/**
 * Checks what is common to all protocols and makes of it what transports of connect take.
 *
 * @param {AddressOptions} options
 * @returns {{ baseUrl: string, interceptors: Interceptor[] }}
 */
export function transportOptionsFrom({ baseUrl, apiKey, interceptors = [] }) {
  const url = httpUrlFrom(baseUrl);
  if (url === undefined) throw new TypeError(`baseUrl must be an http:// or https:// URL, is ${baseUrl}`);
  // Innermost, so that interceptors which log headers do not see the key.
  return {
    baseUrl: url.href,
    interceptors: apiKey ? [...interceptors, authorize(apiKey)] : [...interceptors],
  };
}

/**
 * @param {string} apiKey
 * @returns {Interceptor}
 */
function authorize(apiKey) {
  return (next) => (request) => {
    request.header.set("authorization", `Bearer ${apiKey}`);
    return next(request);
  };
}

/** @param {string} text */
function httpUrlFrom(text) {
  try {
    const url = new URL(text);
    return /^https?:$/.test(url.protocol) ? url : undefined;
  } catch {
    return undefined;
  }
}
