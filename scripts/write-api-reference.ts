import { execFileSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { fromBinary } from "@bufbuild/protobuf";
import {
  type DescriptorProto,
  type EnumDescriptorProto,
  type FieldDescriptorProto,
  FieldDescriptorProto_Label,
  FieldDescriptorProto_Type,
  type FileDescriptorProto,
  FileDescriptorSetSchema,
  type MethodDescriptorProto,
  MethodOptions_IdempotencyLevel,
  type ServiceDescriptorProto,
} from "@bufbuild/protobuf/wkt";

const root = fileURLToPath(new URL("..", import.meta.url));
const contract = "memoryservice.v1";

/** Order of the files on the page: the most used services and types come first. */
const fileOrder = ["memory_service", "memory", "filter", "domain_service", "server_service", "error_reason"];

const introduction = `# API reference

<!-- Generated from the comments in proto/ by scripts/write-api-reference.ts. Edit the comments, not this page. -->

This page describes the contract \`${contract}\`, which is defined in
[proto/memoryservice/v1](../proto/memoryservice/v1). To call the method \`Store\`, for example, send a request to
\`POST /memoryservice.v1.MemoryService/Store\`; [clients.md](clients.md) shows how, for several languages. Methods marked
as read-only change nothing. Methods marked as safe to retry have the same effect if you call them once or several times.`;

const jsonRules = `## JSON

- Field names are in camel case, such as \`pageSize\`. \`page_size\` is accepted, too. Unknown fields are an error.
- 64-bit integers are strings, bytes are base64, and enum values are names.
- A Timestamp is a string such as \`"2026-11-22T19:38:46.567Z"\`, and a Duration is a string such as \`"3600s"\`.`;

/** Comments of one file by the path of the element that they describe (see SourceCodeInfo). */
type Comments = ReadonlyMap<string, string>;

/** Returns the text of docs/api.md, generated from the proto files on disk. */
export function apiReference(): string {
  const buf = `${root}/node_modules/.bin/buf`;
  const image = execFileSync(buf, ["build", "proto", "-o", "-#format=binpb"], { cwd: root });
  const files = fromBinary(FileDescriptorSetSchema, image)
    .file.filter((file) => file.package === contract)
    .sort((a, b) => positionOf(a) - positionOf(b));
  const sections = files.map((file) => sectionOfFile(file, commentsOf(file)));
  return `${[introduction, contentsOf(files), jsonRules, ...sections].join("\n\n")}\n`;
}

function positionOf(file: FileDescriptorProto): number {
  const position = fileOrder.indexOf(nameOf(file));
  if (position < 0) throw new Error(`${file.name} has no position in the API reference; add it to fileOrder`);
  return position;
}

/** Returns `memory_service` for `memoryservice/v1/memory_service.proto`. */
function nameOf(file: FileDescriptorProto): string {
  return file.name.replace(/^.*\//, "").replace(/\.proto$/, "");
}

function commentsOf(file: FileDescriptorProto): Comments {
  const locations = file.sourceCodeInfo?.location ?? [];
  return new Map(
    locations.map(({ path, leadingComments }) => [
      path.join("."),
      leadingComments.replaceAll(/^ /gm, "").trim(),
    ]),
  );
}

function contentsOf(files: readonly FileDescriptorProto[]): string {
  const services = files.flatMap((file) =>
    file.service.map(({ name, method }) => {
      const methods = method.map((rpc) => `[${rpc.name}](#${anchorOf(`${name}.${rpc.name}`)})`);
      return `- [${name}](#${anchorOf(name)}): ${methods.join(", ")}`;
    }),
  );
  return [...services, "- [ErrorReason](#errorreason): why a call failed"].join("\n");
}

function sectionOfFile(file: FileDescriptorProto, comments: Comments): string {
  return [
    ...file.service.map((service, i) => sectionOfService(service, `6.${i}`, comments)),
    `## Types in ${nameOf(file)}.proto`,
    ...file.messageType.map((message, i) => sectionOfMessage(message, message.name, `4.${i}`, comments)),
    ...file.enumType.map((type, i) => sectionOfEnum(type, type.name, `5.${i}`, comments)),
  ].join("\n\n");
}

function sectionOfService(service: ServiceDescriptorProto, path: string, comments: Comments): string {
  return [
    `## ${service.name}`,
    commentAt(comments, path),
    ...service.method.flatMap((method, i) => [
      `### ${service.name}.${method.name}`,
      signatureOf(method),
      commentAt(comments, `${path}.2.${i}`),
    ]),
  ].join("\n\n");
}

function signatureOf(method: MethodDescriptorProto): string {
  const message = (type: string, streams: boolean) => `${streams ? "stream of " : ""}${linkTo(type)}`;
  const input = message(method.inputType, method.clientStreaming);
  const output = message(method.outputType, method.serverStreaming);
  const level = method.options?.idempotencyLevel ?? MethodOptions_IdempotencyLevel.IDEMPOTENCY_UNKNOWN;
  const guarantee = {
    [MethodOptions_IdempotencyLevel.IDEMPOTENCY_UNKNOWN]: "",
    [MethodOptions_IdempotencyLevel.NO_SIDE_EFFECTS]: " · read-only",
    [MethodOptions_IdempotencyLevel.IDEMPOTENT]: " · safe to retry",
  }[level];
  return `${input} → ${output}${guarantee}`;
}

/** Returns the section of a message, followed by those of its nested types. Map entries have no section. */
function sectionOfMessage(message: DescriptorProto, name: string, path: string, comments: Comments): string {
  const nested = message.nestedType.map((inner, i) => ({ inner, path: `${path}.3.${i}` }));
  return [
    `### ${name}`,
    commentAt(comments, path),
    ...fieldTable(message, path, comments),
    ...oneofParagraphs(message, path, comments),
    ...message.enumType.map((type, i) =>
      sectionOfEnum(type, `${name}.${type.name}`, `${path}.4.${i}`, comments),
    ),
    ...nested
      .filter(({ inner }) => !inner.options?.mapEntry)
      .map(({ inner, path }) => sectionOfMessage(inner, `${name}.${inner.name}`, path, comments)),
  ].join("\n\n");
}

function fieldTable(message: DescriptorProto, path: string, comments: Comments): string[] {
  if (message.field.length === 0) return [];
  const rows = message.field.map((field, i) => {
    const description = tableCell(commentAt(comments, `${path}.2.${i}`));
    return `| \`${field.name}\` | ${typeOf(field, message)} | ${description} |`;
  });
  return [["| Field | Type | Description |", "| --- | --- | --- |", ...rows].join("\n")];
}

function oneofParagraphs(message: DescriptorProto, path: string, comments: Comments): string[] {
  return message.oneofDecl.flatMap(({ name }, index) => {
    const members = message.field.filter(
      (field) => field.oneofIndex === index && !field.proto3Optional && isSet(field, "oneofIndex"),
    );
    if (members.length === 0) return [];
    const names = members.map((field) => `\`${field.name}\``).join(", ");
    return [`**\`${name}\`** (one of ${names}): ${commentAt(comments, `${path}.8.${index}`)}`];
  });
}

function isSet<T extends object>(message: T, field: keyof T & string): boolean {
  return Object.hasOwn(message, field);
}

function sectionOfEnum(type: EnumDescriptorProto, name: string, path: string, comments: Comments): string {
  const rows = type.value.map(
    (value, i) =>
      `| \`${value.name}\` | ${value.number} | ${tableCell(commentAt(comments, `${path}.2.${i}`))} |`,
  );
  return [
    `### ${name}`,
    commentAt(comments, path),
    ["| Value | Number | Description |", "| --- | --- | --- |", ...rows].join("\n"),
  ].join("\n\n");
}

function typeOf(field: FieldDescriptorProto, message: DescriptorProto): string {
  const entry = message.nestedType.find(
    (inner) => inner.options?.mapEntry && field.typeName.endsWith(`.${message.name}.${inner.name}`),
  );
  if (entry !== undefined) {
    const [key, value] = entry.field.map((part) => typeOf(part, entry));
    return `map of ${key} to ${value}`;
  }
  const type = field.typeName === "" ? scalarName(field.type) : linkTo(field.typeName);
  if (field.label === FieldDescriptorProto_Label.REPEATED) return `repeated ${type}`;
  return field.proto3Optional ? `optional ${type}` : type;
}

/** Returns the name of a scalar type as in a proto file, such as `double`. */
function scalarName(type: FieldDescriptorProto_Type): string {
  return FieldDescriptorProto_Type[type].toLowerCase();
}

/** Returns a link to the section of a type of this contract, or the short name of a well-known type. */
function linkTo(typeName: string): string {
  const prefix = `.${contract}.`;
  if (!typeName.startsWith(prefix)) return typeName.replace(/^.*\./, "");
  const name = typeName.slice(prefix.length);
  return `[${name}](#${anchorOf(name)})`;
}

/** Returns the anchor that GitHub generates for a heading. */
function anchorOf(heading: string): string {
  return heading.toLowerCase().replaceAll(".", "");
}

function commentAt(comments: Comments, path: string): string {
  const comment = comments.get(path);
  if (!comment) throw new Error(`element ${path} has no comment; buf lint requires one`);
  return comment;
}

/** Joins the lines of a comment, because a table row is a single line. */
function tableCell(comment: string): string {
  return comment
    .split(/\n{2,}/)
    .map((paragraph) => paragraph.replaceAll("\n", " ").replaceAll("|", "\\|"))
    .join("<br><br>");
}

if (import.meta.main) writeFileSync(`${root}/docs/api.md`, apiReference());
