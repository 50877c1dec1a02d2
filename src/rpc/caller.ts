import { type ContextValues, createContextKey } from "@connectrpc/connect";
import { ANYBODY, type Caller } from "../auth/caller.ts";

/** Who makes the call; anybody where no credentials are needed. */
export const kCaller = createContextKey<Caller>(ANYBODY, { description: "caller" });

export function callerOf(context: { readonly values: ContextValues }): Caller {
  return context.values.get(kCaller);
}
