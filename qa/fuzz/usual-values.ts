import { type DescField, ScalarType } from "@bufbuild/protobuf";
import type { Dice } from "./dice.ts";

/** Domains that the cases share; the server's limit allows only a few more. */
export const domains = ["", "default", "alpha", "beta", "gamma", "a-lab", "a_lab"];

const words =
  "apple river night stone Berlin coffee meeting deadline the and of cat memory agent vector snow 2026 größe 漢字".split(
    " ",
  );

function sentence(dice: Dice): string {
  return Array.from({ length: dice.between(1, 12) }, () => dice.pick(words)).join(" ");
}

/** Returns a usual value for a text field of this name, or a word for an unknown name. */
const textByName: Readonly<Record<string, (dice: Dice) => string>> = {
  content: (dice) => (dice.chance(3) ? `${sentence(dice)}. `.repeat(dice.between(2, 200)) : sentence(dice)),
  query: sentence,
  domain: (dice) => dice.pick(domains),
  domains: (dice) => dice.pick(domains.filter((name) => name !== "")),
  name: (dice) => dice.pick(domains),
  confirm_name: (dice) => dice.pick(domains),
  id: (dice) => (dice.chance(15) ? "" : `m${dice.between(1, 200)}`),
  page_token: () => "",
  cursor: () => "",
  text_search_config: (dice) => dice.pick(["", "english", "simple", "german"]),
  embedding_model: (dice) => dice.pick(["", "", "nomic-embed-text"]),
  paths: (dice) => dice.pick(["content", "source", "tags", "metadata", "importance", "description"]),
};

/** Returns a usual value for a scalar field. */
export function usualScalar(
  field: DescField,
  type: ScalarType,
  dice: Dice,
): string | number | bigint | boolean | Uint8Array {
  switch (type) {
    case ScalarType.STRING:
      return (textByName[field.name] ?? ((own) => own.pick(words)))(dice);
    case ScalarType.BYTES:
      return dice.bytes(dice.pick([0, 4, 16]));
    case ScalarType.BOOL:
      return dice.chance(30);
    case ScalarType.DOUBLE:
    case ScalarType.FLOAT:
      return Math.fround(dice.between(0, 1_000) / 1_000);
    case ScalarType.INT64:
    case ScalarType.SINT64:
    case ScalarType.SFIXED64:
    case ScalarType.UINT64:
    case ScalarType.FIXED64:
      // Seconds of a Timestamp: from 2001 to 2096.
      if (field.parent.typeName === "google.protobuf.Timestamp")
        return BigInt(dice.between(1_000_000_000, 2_000_000_000)) * 2n;
      return BigInt(dice.between(1, 5));
    default:
      return dice.between(1, 20);
  }
}
