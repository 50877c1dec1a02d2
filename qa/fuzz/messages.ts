import { create, type DescField, type DescMessage, type Message, ScalarType } from "@bufbuild/protobuf";
import { type ReflectList, type ReflectMap, type ReflectMessage, reflect } from "@bufbuild/protobuf/reflect";
import type { Dice } from "./dice.ts";
import { hostileEnumNumbers, hostileScalar } from "./hostile-values.ts";
import { usualScalar } from "./usual-values.ts";

interface Making {
  readonly dice: Dice;
  /** The percentage of fields with a hostile value. */
  readonly bendPercent: number;
}

/** Fields without which most requests have no effect. */
const telling = new Set([
  "query",
  "content",
  "domain",
  "id",
  "name",
  "memory",
  "items",
  "update_mask",
  "filter",
]);

const usualDepth = 4;

/** Creates a message of any type from its descriptor, so that it covers fields added to the contract later. */
export function makeMessage(desc: DescMessage, making: Making): Message {
  return make(desc, making, usualDepth).message as Message;
}

function make(desc: DescMessage, making: Making, depth: number): ReflectMessage {
  const { dice } = making;
  const made = reflect(desc, create(desc));
  for (const member of desc.members) {
    if (member.kind === "oneof") {
      if (dice.chance(depth > 1 ? 60 : 30)) fill(made, dice.pick(member.fields), making, depth);
    } else if (dice.chance(telling.has(member.name) ? 92 : 25)) {
      fill(made, member, making, depth);
    }
  }
  if (dice.chance(making.bendPercent)) addUnknownField(made, dice);
  return made;
}

function fill(made: ReflectMessage, field: DescField, making: Making, depth: number): void {
  const { dice } = making;
  const bent = dice.chance(making.bendPercent);
  switch (field.fieldKind) {
    case "scalar":
      made.set(field, bent ? hostileScalar(field.scalar, dice) : usualScalar(field, field.scalar, dice));
      return;
    case "enum":
      made.set(field, bent ? dice.pick(hostileEnumNumbers) : dice.pick(field.enum.values).number);
      return;
    case "message":
      if (bent && dice.pick(["deep", "as usual"]) === "deep") {
        made.set(field, nest(field.message, making, dice.pick([0, 9, 17, 100, 900])));
      } else if (depth > 0) made.set(field, make(field.message, making, depth - 1));
      return;
    case "list": {
      const list = made.get(field) as ReflectList;
      if (bent && dice.chance(40)) {
        // Usual values within: multiplied on several levels, large ones would exhaust all memory.
        const item = itemOf(field, { dice, bendPercent: 0 }, Math.min(depth, 2));
        if (item === undefined) return;
        for (let n = dice.pick([65, 129, 1_001]); n > 0; n--) list.add(item);
        return;
      }
      for (let n = dice.between(1, 3); n > 0; n--) {
        const item = itemOf(field, making, depth);
        if (item !== undefined) list.add(item);
      }
      return;
    }
    case "map": {
      const map = made.get(field) as ReflectMap;
      for (let n = bent ? dice.pick([1, 100]) : dice.between(1, 3); n > 0; n--) {
        const key = usualScalar(field, field.mapKey, dice);
        const hostile = bent ? hostileScalar(field.mapKey, dice) : key;
        const value = itemOf(field, bent ? { dice, bendPercent: 0 } : making, depth);
        if (value === undefined || key instanceof Uint8Array || hostile instanceof Uint8Array) return;
        map.set(n > 1 && typeof hostile === "string" ? `${hostile}${n}` : hostile, value);
      }
    }
  }
}

/** Returns a value of a list or a map, or undefined if it would nest too deeply. */
function itemOf(field: DescField & { fieldKind: "list" | "map" }, making: Making, depth: number) {
  const { dice } = making;
  const bent = dice.chance(making.bendPercent);
  if (field.scalar !== undefined) {
    return bent ? hostileScalar(field.scalar, dice) : usualScalar(field, field.scalar, dice);
  }
  if (field.enum !== undefined) {
    return bent ? dice.pick(hostileEnumNumbers) : dice.pick(field.enum.values).number;
  }
  return depth > 0 && field.message !== undefined ? make(field.message, making, depth - 1) : undefined;
}

/** Nests the message in itself this many times if its type allows it; otherwise returns a usual one. */
function nest(desc: DescMessage, making: Making, times: number): ReflectMessage {
  const path = pathToItself(desc, desc, new Set());
  let inner = make(desc, { ...making, bendPercent: 0 }, 1);
  if (path === undefined) return inner;
  for (; times > 0; times--) {
    for (const field of path.toReversed()) {
      const outer = reflect(field.parent, create(field.parent));
      if (field.fieldKind === "list") (outer.get(field) as ReflectList).add(inner);
      else if (field.fieldKind === "map") (outer.get(field) as ReflectMap).set("k", inner);
      else outer.set(field, inner);
      inner = outer;
    }
  }
  return inner;
}

/** Returns the fields that lead from a type back to itself. */
function pathToItself(
  from: DescMessage,
  target: DescMessage,
  seen: Set<DescMessage>,
): readonly DescField[] | undefined {
  if (seen.has(from)) return undefined;
  seen.add(from);
  for (const field of from.fields) {
    if (field.message === undefined) continue;
    if (field.fieldKind === "map" && field.mapKey !== ScalarType.STRING) continue;
    const rest = field.message === target ? [] : pathToItself(field.message, target, seen);
    if (rest !== undefined) return [field, ...rest];
  }
  return undefined;
}

function addUnknownField(made: ReflectMessage, dice: Dice): void {
  const data = dice.bytes(dice.between(0, 20));
  made.setUnknown([{ no: dice.pick([999, 19_000, 536_870_911]), wireType: 2, data: withLength(data) }]);
}

function withLength(data: Uint8Array): Uint8Array {
  return Uint8Array.from([data.length, ...data]);
}
