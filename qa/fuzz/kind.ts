import type { Answer } from "./answer.ts";
import type { Dice } from "./dice.ts";
import type { HttpClient } from "./http-client.ts";
import type { RawClient } from "./raw-client.ts";

/** The clients that a case can send with. */
export interface Ways {
  readonly http: HttpClient;
  readonly raw: RawClient;
}

/** A case: what it sends, and which answers are allowed. */
export interface Attempt {
  /** One line that identifies the case when it is reproduced. */
  readonly title: string;
  /**
   * `contract`: the request reaches a handler of the contract, so any failure has a reason. `decodable`: it reaches a
   * handler, so the answer is never Internal. `answered`: the server must answer. `any`: the server may also hang up.
   */
  readonly expects: "contract" | "decodable" | "answered" | "any";
  send(): Promise<Answer>;
}

/** A family of cases. */
export interface Kind {
  readonly name: string;
  /** The share of this family among all cases, relative to the others. */
  readonly weight: number;
  readonly attempt: (dice: Dice, ways: Ways) => Attempt;
}
