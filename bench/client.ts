import {
  create,
  type DescMessage,
  type DescMethodUnary,
  fromBinary,
  type MessageInitShape,
  type MessageShape,
  toBinary,
} from "@bufbuild/protobuf";
import * as grpc from "@grpc/grpc-js";
import { DomainService } from "memory-service-client/memoryservice/v1/domain_service_pb.js";
import { MemoryService } from "memory-service-client/memoryservice/v1/memory_service_pb.js";

/** A caller in another process, on one HTTP/2 connection: grpc-js, as most Node services use it. */
export interface MemoryClient {
  store(
    request: MessageInitShape<typeof MemoryService.method.store.input>,
  ): Promise<MessageShape<typeof MemoryService.method.store.output>>;
  search(
    request: MessageInitShape<typeof MemoryService.method.search.input>,
  ): Promise<MessageShape<typeof MemoryService.method.search.output>>;
  getDomain(
    request: MessageInitShape<typeof DomainService.method.getDomain.input>,
  ): Promise<MessageShape<typeof DomainService.method.getDomain.output>>;
  close(): void;
}

const DEADLINE_MS = 60_000;

export function createMemoryClient(url: string): MemoryClient {
  const client = new grpc.Client(new URL(url).host, grpc.credentials.createInsecure());

  function call<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    request: MessageInitShape<I>,
  ): Promise<MessageShape<O>> {
    return new Promise((resolve, reject) => {
      client.makeUnaryRequest(
        `/${method.parent.typeName}/${method.name}`,
        (message: MessageShape<I>) => Buffer.from(toBinary(method.input, message)),
        (bytes: Buffer) => fromBinary(method.output, bytes),
        create(method.input, request),
        { deadline: Date.now() + DEADLINE_MS },
        (error, answer) => {
          if (error) reject(error);
          else if (answer === undefined) reject(new Error("an answer without a message"));
          else resolve(answer);
        },
      );
    });
  }

  return {
    store: (request) => call(MemoryService.method.store, request),
    search: (request) => call(MemoryService.method.search, request),
    getDomain: (request) => call(DomainService.method.getDomain, request),
    close: () => client.close(),
  };
}
