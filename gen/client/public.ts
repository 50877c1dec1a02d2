// Exports of the package that are the same in every runtime.
export { Code } from "@connectrpc/connect";
export { memoryServiceErrorFrom } from "./convert-error.ts";
export {
  type ErrorReasonName,
  type FieldViolation,
  MemoryServiceError,
  type MemoryServiceErrorOptions,
} from "./errors.ts";
export type { HitStream } from "./hit-stream.ts";
export type { MemoryClient } from "./memory-client.ts";
export { createMemoryId } from "./memory-id.ts";
export type {
  AddressOptions,
  CallOptions,
  CommonOptions,
  MemoryClientOptions,
  Protocol,
  TransportOptions,
} from "./options.ts";
export type { RetryOptions } from "./retry.ts";
