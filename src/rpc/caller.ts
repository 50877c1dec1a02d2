import { type ContextValues, createContextKey } from "@connectrpc/connect";
import { type Caller, UNRESTRICTED } from "../auth/caller.ts";

/** Who makes the call; anybody where no credentials are needed. */
export const kCaller = createContextKey<Caller>(UNRESTRICTED, { description: "caller" });

export function callerOf(context: { readonly values: ContextValues }): Caller {
  return context.values.get(kCaller);
}
