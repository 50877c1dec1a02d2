/** The longest delay that Node's timers know, in milliseconds: 24.8 days. A longer one would end at once. */
const longestMs = 2 ** 31 - 1;

/** Milliseconds of the units in which `grpc-timeout` can tell more than that. */
const unitsMs: Readonly<Record<string, number>> = { H: 3_600_000, M: 60_000, S: 1_000 };

/**
 * Removes a deadline that is further away than a timer can wait: clients send such to say that there is none, as
 * `99999999H`. What is no deadline at all stays, to be refused.
 */
export function forgetDistantDeadline(headers: Headers): void {
  const [, count, unit = ""] = /^(\d{1,8})([HMS])$/.exec(headers.get("grpc-timeout") ?? "") ?? [];
  if (Number(count) * (unitsMs[unit] ?? 0) > longestMs) headers.delete("grpc-timeout");
  const connectTimeout = headers.get("connect-timeout-ms") ?? "";
  if (/^\d{1,10}$/.test(connectTimeout) && Number(connectTimeout) > longestMs) {
    headers.delete("connect-timeout-ms");
  }
}
