import { type DescFile, type DescMessage, type DescService, toBinary } from "@bufbuild/protobuf";
import { FileDescriptorProtoSchema } from "@bufbuild/protobuf/wkt";
import { Code, type ConnectRouter } from "@connectrpc/connect";
import {
  ServerReflection as ReflectionV1,
  type ServerReflectionRequest,
} from "../../generated/grpc/reflection/v1/reflection_pb.ts";
import { ServerReflection as ReflectionV1Alpha } from "../../generated/grpc/reflection/v1alpha/reflection_pb.ts";
import { MAX_PUBLIC_MESSAGE_BYTES } from "../methods.ts";

/**
 * Creates grpc.reflection.v1 and v1alpha, by which clients without a schema (buf curl, grpcurl) learn one. The
 * two differ in their package name only; older clients know just the alpha.
 *
 * @param services what to describe; the reflection services are added.
 */
export function createReflection(services: readonly DescService[]): (router: ConnectRouter) => void {
  const listed = [...services, ReflectionV1, ReflectionV1Alpha];
  const files = allFiles(listed.map((service) => service.file));
  const fileBySymbol = new Map(
    [...files.values()].flatMap((file) => symbolsOf(file).map((name) => [name, file])),
  );

  const reply = (query: Query) => {
    switch (query.case) {
      case "listServices":
        return {
          case: "listServicesResponse" as const,
          value: { service: listed.map(({ typeName }) => ({ name: typeName })) },
        };
      case "fileByFilename": {
        const file = files.get(query.value);
        return file === undefined ? notFound(`file "${query.value}"`) : descriptorsOf(file);
      }
      case "fileContainingSymbol": {
        const file = fileBySymbol.get(query.value.replace(/^\./, ""));
        return file === undefined ? notFound(`symbol "${query.value}"`) : descriptorsOf(file);
      }
      case "fileContainingExtension":
        return notFound(`extension ${query.value.extensionNumber} of "${query.value.containingType}"`);
      case "allExtensionNumbersOfType":
        return notFound(`extensions of "${query.value}"`);
      default:
        return failure(Code.InvalidArgument, "the request asks for nothing");
    }
  };

  async function* answers<Request extends { readonly host: string; readonly messageRequest: Query }>(
    requests: AsyncIterable<Request>,
  ) {
    for await (const request of requests) {
      yield {
        validHost: request.host,
        originalRequest: request,
        messageResponse: reply(request.messageRequest),
      };
    }
  }

  return (router) => {
    const limits = { readMaxBytes: MAX_PUBLIC_MESSAGE_BYTES };
    router.service(ReflectionV1, { serverReflectionInfo: (requests) => answers(requests) }, limits);
    router.service(ReflectionV1Alpha, { serverReflectionInfo: (requests) => answers(requests) }, limits);
  };
}

/** The question of either version. */
type Query =
  | Exclude<ServerReflectionRequest["messageRequest"], { case: "fileContainingExtension" }>
  | {
      readonly case: "fileContainingExtension";
      readonly value: { readonly containingType: string; readonly extensionNumber: number };
    };

/** The file and everything it imports, the file first. */
function descriptorsOf(file: DescFile) {
  const closure = [...allFiles([file]).values()];
  return {
    case: "fileDescriptorResponse" as const,
    value: { fileDescriptorProto: closure.map(({ proto }) => toBinary(FileDescriptorProtoSchema, proto)) },
  };
}

function notFound(what: string) {
  return failure(Code.NotFound, `${what} not found`);
}

/** Returns a failure as an answer, so that the stream continues with the next question. */
function failure(code: Code, message: string) {
  return { case: "errorResponse" as const, value: { errorCode: code, errorMessage: message } };
}

function allFiles(roots: readonly DescFile[]): Map<string, DescFile> {
  const found = new Map<string, DescFile>();
  const visit = (file: DescFile) => {
    if (found.has(file.proto.name)) return;
    found.set(file.proto.name, file);
    file.dependencies.forEach(visit);
  };
  roots.forEach(visit);
  return found;
}

function symbolsOf(file: DescFile): string[] {
  return [
    ...file.services.flatMap((service) => [
      service.typeName,
      ...service.methods.map((method) => `${service.typeName}.${method.name}`),
    ]),
    ...file.enums.flatMap((desc) => enumSymbols(desc)),
    ...file.extensions.map((extension) => extension.typeName),
    ...file.messages.flatMap((message) => messageSymbols(message)),
  ];
}

function messageSymbols(message: DescMessage): string[] {
  return [
    message.typeName,
    ...message.fields.map((field) => `${message.typeName}.${field.name}`),
    ...message.oneofs.map((oneof) => `${message.typeName}.${oneof.name}`),
    ...message.nestedEnums.flatMap((desc) => enumSymbols(desc)),
    ...message.nestedExtensions.map((extension) => extension.typeName),
    ...message.nestedMessages.flatMap((nested) => messageSymbols(nested)),
  ];
}

/** Values are siblings of their enum: `pkg.RED`, not `pkg.Color.RED`. */
function enumSymbols(desc: DescFile["enums"][number]): string[] {
  const scope = desc.typeName.slice(0, desc.typeName.lastIndexOf(".") + 1);
  return [desc.typeName, ...desc.values.map((value) => `${scope}${value.name}`)];
}
