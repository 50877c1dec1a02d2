import type { Dice } from "./dice.ts";
import type { Kind } from "./kind.ts";
import { compressedBombs } from "./kinds/bombs.ts";
import { connections } from "./kinds/connections.ts";
import { fields } from "./kinds/fields.ts";
import { frames } from "./kinds/frames.ts";
import { heads } from "./kinds/heads.ts";
import { http1Oddities } from "./kinds/http1-oddities.ts";
import { http2Oddities } from "./kinds/http2-oddities.ts";
import { jsonText } from "./kinds/json-text.ts";
import { protobufBytes } from "./kinds/protobuf-bytes.ts";

export const kinds: readonly Kind[] = [
  fields,
  protobufBytes,
  jsonText,
  frames,
  heads,
  http1Oddities,
  http2Oddities,
  connections,
  compressedBombs,
];

const totalWeight = kinds.reduce((sum, { weight }) => sum + weight, 0);

/** Picks a kind in proportion to its weight. */
export function pickKind(dice: Dice): Kind {
  let at = (dice.between(0, 999_999) / 1_000_000) * totalWeight;
  for (const kind of kinds) {
    at -= kind.weight;
    if (at < 0) return kind;
  }
  return fields;
}
