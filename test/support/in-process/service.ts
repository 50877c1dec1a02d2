import { ConnectError, type ConnectRouter, createClient, createRouterTransport } from "@connectrpc/connect";
import { MemoryService } from "memory-service-client/memoryservice/v1/memory_service_pb.js";
import { expect } from "vitest";
import {
  BadRequestSchema,
  ErrorInfoSchema,
  RetryInfoSchema,
} from "../../../src/generated/google/rpc/error_details_pb.ts";
import { LIMITS } from "../../../src/memory/model/limits.ts";
import { createErrorInterceptor } from "../../../src/rpc/interceptors/errors.ts";
import { createMemoryService } from "../../../src/rpc/services/memory-service.ts";
import { silentLogger } from "../silent-logger.ts";
import type { UseCases } from "./use-cases.ts";

/** Creates the service as src/app/open-services.ts wires it; the domain of the use cases is the default one. */
export function memoryServiceRoutes({ memories, domain }: UseCases): (router: ConnectRouter) => void {
  const service = createMemoryService(memories, { defaultDomain: domain });
  return (router) => void router.service(MemoryService, service);
}

/** Creates an in-process client of the service: it encodes and decodes every message but opens no connection. */
export function createServiceClient(useCases: UseCases) {
  const transport = createRouterTransport(memoryServiceRoutes(useCases), {
    router: {
      interceptors: [createErrorInterceptor({ logger: silentLogger })],
      readMaxBytes: LIMITS.messageBytes,
      writeMaxBytes: LIMITS.messageBytes,
    },
  });
  return createClient(MemoryService, transport);
}

/** Returns the error of a call that must fail, with its details. */
export async function errorOf(call: Promise<unknown>) {
  const error: unknown = await call.then(
    () => expect.fail("the call succeeded"),
    (thrown: unknown) => thrown,
  );
  if (!(error instanceof ConnectError)) throw error;
  const [info] = error.findDetails(ErrorInfoSchema);
  return {
    code: error.code,
    message: error.rawMessage,
    reason: info?.reason,
    metadata: info?.metadata ?? {},
    violations: error
      .findDetails(BadRequestSchema)
      .flatMap(({ fieldViolations }) =>
        fieldViolations.map(({ field, description }) => ({ field, description })),
      ),
    retries: error.findDetails(RetryInfoSchema).length > 0,
  };
}

/** Returns all messages of a stream. */
export async function collect<T>(stream: AsyncIterable<T>): Promise<T[]> {
  const messages: T[] = [];
  for await (const message of stream) messages.push(message);
  return messages;
}
