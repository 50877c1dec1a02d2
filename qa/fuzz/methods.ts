import type { DescMethod } from "@bufbuild/protobuf";
import { DomainService } from "memory-service-client/memoryservice/v1/domain_service_pb.js";
import { MemoryService } from "memory-service-client/memoryservice/v1/memory_service_pb.js";
import { ServerService } from "memory-service-client/memoryservice/v1/server_service_pb.js";
import { Health } from "../../src/generated/grpc/health/v1/health_pb.ts";
import { ServerReflection } from "../../src/generated/grpc/reflection/v1/reflection_pb.ts";
import { ServerReflection as ServerReflectionAlpha } from "../../src/generated/grpc/reflection/v1alpha/reflection_pb.ts";
import type { Dice } from "./dice.ts";

const contract: readonly DescMethod[] = [MemoryService, DomainService, ServerService].flatMap(
  (service) => service.methods,
);
const others: readonly DescMethod[] = [Health, ServerReflection, ServerReflectionAlpha].flatMap(
  (service) => service.methods,
);

/** Picks any method of the server, usually one of the contract. */
export function pickMethod(dice: Dice): DescMethod {
  return dice.pick(dice.chance(92) ? contract : others);
}

/** Picks a unary method. */
export function pickUnary(dice: Dice): DescMethod {
  return dice.pick(contract.filter(({ methodKind }) => methodKind === "unary"));
}

/** Returns the path of a method, for example `/memoryservice.v1.MemoryService/Store`. */
export function pathOf(method: DescMethod): string {
  return `/${method.parent.typeName}/${method.name}`;
}

/** Returns true if the method at this path streams without end. */
export function isEndless(path: string): boolean {
  return path.split("?", 1)[0] === pathOf(Health.method.watch);
}

/** Returns true for services whose errors all have a reason. */
export function isOfContract(method: DescMethod): boolean {
  return contract.includes(method);
}
