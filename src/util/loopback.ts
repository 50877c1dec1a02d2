/**
 * Returns whether only this machine can reach the host: `localhost`, `*.localhost`, 127.0.0.0/8 and `::1` (with or
 * without brackets).
 */
export function isLoopbackHost(name: string): boolean {
  const host = name.toLowerCase().replace(/\.$/, "");
  if (host === "localhost" || host.endsWith(".localhost")) return true;
  if (host === "::1" || host === "[::1]") return true;
  return /^127(\.(0|[1-9]\d?|1\d\d|2[0-4]\d|25[0-5])){3}$/.test(host);
}
