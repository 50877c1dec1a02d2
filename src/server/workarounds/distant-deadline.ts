/** Maximum delay of Node's timers, 24.8 days. A timer with a longer delay fires at once. */
const longestMs = 2 ** 31 - 1;

/** The units in which `grpc-timeout` can exceed that, in milliseconds. */
const unitsMs: Readonly<Record<string, number>> = { H: 3_600_000, M: 60_000, S: 1_000 };

/**
 * Removes a deadline that exceeds Node's timers, which would make connect-node end the call at once. Clients send such deadlines,
 * for example `99999999H`, to express that there is none. An invalid deadline stays and is rejected.
 */
export function removeDistantDeadline(headers: Headers): void {
  const [, count, unit = ""] = /^(\d{1,8})([HMS])$/.exec(headers.get("grpc-timeout") ?? "") ?? [];
  if (Number(count) * (unitsMs[unit] ?? 0) > longestMs) headers.delete("grpc-timeout");
  const connectTimeout = headers.get("connect-timeout-ms") ?? "";
  if (/^\d{1,10}$/.test(connectTimeout) && Number(connectTimeout) > longestMs) {
    headers.delete("connect-timeout-ms");
  }
}
