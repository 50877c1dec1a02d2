import type { Microseconds } from "../../memory/model/memory.ts";
import type { LegacyRow } from "../readers/read-database.ts";
import { decodeText, type StoredValue } from "../readers/stored-value.ts";

/** Returns when the memory of a row expires; undefined if it never does. */
export function expireTimeOf(row: LegacyRow): Microseconds | undefined {
  return timeOf(row.expires_at);
}

/** Bounds of a time in seconds since 1970: the years 1 to 9999. */
const FIRST_SECOND = -62_135_596_800;
const END_SECOND = 253_402_300_800;

/**
 * Converts a value to a time, rounded to the microsecond; undefined if it is not a time. Exports of the fork from
 * PostgreSQL contain times as text.
 */
export function timeOf(value: StoredValue | undefined): Microseconds | undefined {
  if (value === undefined || value === null) return undefined;
  if (typeof value === "object") return timeOfText(decodeText(value).text);
  const seconds = Number(value);
  if (!(seconds >= FIRST_SECOND && seconds < END_SECOND)) return undefined;
  const whole = Math.floor(seconds);
  // The difference is exact, so that the value is rounded only once.
  return BigInt(whole) * 1_000_000n + BigInt(Math.round((seconds - whole) * 1e6));
}

const TEXT_TIME = /^(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)(?:\.(\d{1,6}))?(Z|[+-]\d\d(?::?\d\d)?)?$/;

function timeOfText(text: string): Microseconds | undefined {
  const [, date, time, fraction = "", zone = "Z"] = TEXT_TIME.exec(text) ?? [];
  const offset = /^[+-]\d\d$/.test(zone) ? `${zone}:00` : zone;
  const milliseconds = Date.parse(`${date}T${time}${offset}`);
  if (!(milliseconds >= FIRST_SECOND * 1_000 && milliseconds < END_SECOND * 1_000)) return undefined;
  // Date.parse moves a day that the month does not have to the next month.
  const day = Date.parse(`${date}T00:00:00Z`);
  if (Number.isNaN(day) || !new Date(day).toISOString().startsWith(`${date}T`)) return undefined;
  return BigInt(milliseconds) * 1_000n + BigInt(fraction.padEnd(6, "0"));
}

/** Returns the time in an id of the old server, which is its creation time in milliseconds. */
export function timeOfId(id: string): Microseconds | undefined {
  const milliseconds = /^mem_(\d{13})$/.exec(id)?.[1];
  return milliseconds === undefined ? undefined : BigInt(milliseconds) * 1_000n;
}
