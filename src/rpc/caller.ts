import { type ContextValues, createContextKey } from "@connectrpc/connect";
import { type Caller, UNRESTRICTED } from "../auth/caller.ts";

/** The caller of an RPC; an unrestricted caller if no credentials are required. */
export const kCaller = createContextKey<Caller>(UNRESTRICTED, { description: "caller" });

export function callerOf(context: { readonly values: ContextValues }): Caller {
  return context.values.get(kCaller);
}
