import type { JsonValue } from "@bufbuild/protobuf";
import { callOf, encodeMessages, protocols } from "../call.ts";
import type { Dice } from "../dice.ts";
import { hostileText } from "../hostile-values.ts";
import type { Kind } from "../kind.ts";
import { makeMessage } from "../messages.ts";
import { isEndless, pickMethod } from "../methods.ts";

/** JSON with values of the wrong type, unknown fields, and text that is not JSON. */
export const jsonText: Kind = {
  name: "json",
  weight: 10,
  attempt(dice, { http }) {
    const method = pickMethod(dice);
    const protocol = dice.pick(protocols.filter(({ json }) => json));
    const message = makeMessage(method.input, { dice, bendPercent: 3 });
    const good = Buffer.from(encodeMessages(method, [message], true)?.[0] ?? "{}").toString();
    const text = dice.chance(70) ? JSON.stringify(bendValue(JSON.parse(good), dice)) : bendText(good, dice);
    const call = callOf(method, protocol, [Buffer.from(text)]);
    return {
      title: `${method.name} by ${protocol.name}: ${text.slice(0, 80)}`,
      expects: "answered",
      send: () => http.send({ ...call, ...(isEndless(call.path) ? { leaves: "at-answer" } : {}) }),
    };
  },
};

/** Returns the value with roughly one part replaced. */
function bendValue(value: JsonValue, dice: Dice): JsonValue {
  if (dice.chance(25)) return otherValue(dice);
  if (Array.isArray(value)) return value.map((item) => (dice.chance(40) ? bendValue(item, dice) : item));
  if (typeof value !== "object" || value === null) return otherValue(dice);
  const entries = Object.entries(value).map(([name, item]): [string, JsonValue] => [
    dice.chance(4) ? `${name}x` : name,
    dice.chance(40) ? bendValue(item, dice) : item,
  ]);
  if (dice.chance(15)) entries.push([dice.pick(["dry_rnu", "__proto__", "", "@type", "constructor"]), true]);
  return Object.fromEntries(entries);
}

function otherValue(dice: Dice): JsonValue {
  const simple = [
    null,
    true,
    0,
    -1,
    1.5,
    1e300,
    "",
    "x",
    [],
    {},
    [[]],
    [null],
    { "": {} },
    "NaN",
    "1",
    "2026-01-01",
  ];
  return dice.chance(80) ? dice.pick<JsonValue>(simple) : hostileText(dice).slice(0, 2_000);
}

function bendText(good: string, dice: Dice): string {
  const at = dice.between(0, good.length);
  const depth = dice.pick([50, 1_000, 20_000]);
  return dice.pick([
    good.slice(0, at),
    `${good.slice(0, at)}${dice.pick([",", "}", '"', "\\", "\u0001", "//", "1e999", "\\ud800"])}${good.slice(at)}`,
    `\ufeff${good}`,
    `${good}${good}`,
    good.replace(/\d+/, "1e999"),
    good.replace(/"([a-z]+)":/i, '"$1":null,"$1":'),
    `${"[".repeat(depth)}${"]".repeat(depth)}`,
    `{"filter":${'{"allOf":{"filters":['.repeat(depth)}`,
    `{"metadata":${'{"a":'.repeat(depth)}1${"}".repeat(depth)}}`,
    "",
    "null",
    '"x"',
    "\ud800",
  ]);
}
