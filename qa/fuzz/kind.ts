import type { Answer } from "./answer.ts";
import type { Dice } from "./dice.ts";
import type { HttpClient } from "./http-client.ts";
import type { RawClient } from "./raw-client.ts";

/** The ways to the server that a case has. */
export interface Ways {
  readonly http: HttpClient;
  readonly raw: RawClient;
}

/** One case: what is sent, and what may be expected of the answer. */
export interface Attempt {
  /** One line for whoever repeats it. */
  readonly title: string;
  /**
   * `contract`: a request that reaches a handler of the contract, so any failure has a reason. `decodable`: it reaches a
   * handler, so it is never Internal. `answered`: whatever it is, it has to be answered. `any`: the server may also hang up.
   */
  readonly expects: "contract" | "decodable" | "answered" | "any";
  send(): Promise<Answer>;
}

/** A family of cases. */
export interface Kind {
  readonly name: string;
  /** How many of all cases are of it, in relation to the others. */
  readonly weight: number;
  readonly attempt: (dice: Dice, ways: Ways) => Attempt;
}
