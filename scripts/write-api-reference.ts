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

/** The files in the order of the page: what everybody needs first. */
const order = ["memory_service", "memory", "filter", "domain_service", "server_service", "error_reason"];

const introduction = `# API reference

<!-- Written from the comments in proto/ by scripts/write-api-reference.ts: change them there. -->

The contract \`${contract}\`, as [proto/memoryservice/v1](../proto/memoryservice/v1) says it. A method or a field
that a server does not serve yet answers \`UNIMPLEMENTED\`; the table in the [README](../README.md) tells which of them
this version serves.

Method \`Store\` is called as \`POST /memoryservice.v1.MemoryService/Store\`; [clients.md](clients.md) shows how, from
several languages. In JSON, names are written in camel case (\`pageSize\`; \`page_size\` is read, too), 64-bit integers as
strings, a Timestamp as \`"2026-11-22T19:38:46.567Z"\`, a Duration as \`"3600s"\`, bytes in base64 and enum values by name.
A key that is not in the contract is an error.`;

/** Comments of one file, by the path of what they belong to (see SourceCodeInfo). */
type Comments = ReadonlyMap<string, string>;

/** The page docs/api.md, made from the contract as it is on disk. */
export function apiReference(): string {
  const buf = `${root}/node_modules/.bin/buf`;
  const image = execFileSync(buf, ["build", "proto", "-o", "-#format=binpb"], { cwd: root });
  const files = fromBinary(FileDescriptorSetSchema, image)
    .file.filter((file) => file.package === contract)
    .sort((a, b) => positionOf(a) - positionOf(b));
  const sections = files.map((file) => sectionOfFile(file, commentsOf(file)));
  return `${[introduction, contentsOf(files), ...sections].join("\n\n")}\n`;
}

function positionOf(file: FileDescriptorProto): number {
  const position = order.indexOf(nameOf(file));
  if (position < 0) throw new Error(`${file.name} has no place in the reference: add it to the order`);
  return position;
}

/** `memory_service` of `memoryservice/v1/memory_service.proto`. */
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
      const methods = method.map((one) => `[${one.name}](#${anchorOf(`${name}.${one.name}`)})`);
      return `- [${name}](#${anchorOf(name)}): ${methods.join(", ")}`;
    }),
  );
  return [...services, "- [ErrorReason](#errorreason): why a call failed"].join("\n");
}

function sectionOfFile(file: FileDescriptorProto, comments: Comments): string {
  return [
    ...file.service.map((service, i) => sectionOfService(service, `6.${i}`, comments)),
    `## Types of ${nameOf(file)}.proto`,
    ...file.messageType.map((message, i) => sectionOfMessage(message, message.name, `4.${i}`, comments)),
    ...file.enumType.map((one, i) => sectionOfEnum(one, one.name, `5.${i}`, comments)),
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
  const promise = {
    [MethodOptions_IdempotencyLevel.IDEMPOTENCY_UNKNOWN]: "",
    [MethodOptions_IdempotencyLevel.NO_SIDE_EFFECTS]: " · changes nothing",
    [MethodOptions_IdempotencyLevel.IDEMPOTENT]: " · safe to repeat",
  }[level];
  return `${input} → ${output}${promise}`;
}

/** A message with those inside it. Map entries are no messages of their own to a reader. */
function sectionOfMessage(message: DescriptorProto, name: string, path: string, comments: Comments): string {
  const nested = message.nestedType.map((inner, i) => ({ inner, path: `${path}.3.${i}` }));
  return [
    `### ${name}`,
    commentAt(comments, path),
    ...fieldTable(message, path, comments),
    ...oneofRemarks(message, path, comments),
    ...message.enumType.map((one, i) =>
      sectionOfEnum(one, `${name}.${one.name}`, `${path}.4.${i}`, comments),
    ),
    ...nested
      .filter(({ inner }) => !inner.options?.mapEntry)
      .map((one) => sectionOfMessage(one.inner, `${name}.${one.inner.name}`, one.path, comments)),
  ].join("\n\n");
}

function fieldTable(message: DescriptorProto, path: string, comments: Comments): string[] {
  if (message.field.length === 0) return [];
  const rows = message.field.map((field, i) => {
    const meaning = cell(commentAt(comments, `${path}.2.${i}`));
    return `| \`${field.name}\` | ${typeOf(field, message)} | ${meaning} |`;
  });
  return [["| field | type | |", "| --- | --- | --- |", ...rows].join("\n")];
}

function oneofRemarks(message: DescriptorProto, path: string, comments: Comments): string[] {
  return message.oneofDecl.flatMap(({ name }, index) => {
    const members = message.field.filter(
      (field) => field.oneofIndex === index && !field.proto3Optional && isSet(field, "oneofIndex"),
    );
    if (members.length === 0) return [];
    const names = members.map((field) => `\`${field.name}\``).join(", ");
    return [`\`${name}\` is one of ${names}: ${commentAt(comments, `${path}.8.${index}`)}`];
  });
}

function isSet<T extends object>(message: T, field: keyof T & string): boolean {
  return Object.hasOwn(message, field);
}

function sectionOfEnum(one: EnumDescriptorProto, name: string, path: string, comments: Comments): string {
  const rows = one.value.map(
    (value, i) => `| \`${value.name}\` | ${value.number} | ${cell(commentAt(comments, `${path}.2.${i}`))} |`,
  );
  return [
    `### ${name}`,
    commentAt(comments, path),
    ["| value | number | |", "| --- | --- | --- |", ...rows].join("\n"),
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

/** `double`, as it is written in a proto file. */
function scalarName(type: FieldDescriptorProto_Type): string {
  return FieldDescriptorProto_Type[type].toLowerCase();
}

/** A type of this contract with a link to its section; one of protobuf's own by its short name. */
function linkTo(typeName: string): string {
  const own = `.${contract}.`;
  if (!typeName.startsWith(own)) return typeName.replace(/^.*\./, "");
  const name = typeName.slice(own.length);
  return `[${name}](#${anchorOf(name)})`;
}

/** The anchor that GitHub gives a heading. */
function anchorOf(heading: string): string {
  return heading.toLowerCase().replaceAll(".", "");
}

function commentAt(comments: Comments, path: string): string {
  const comment = comments.get(path);
  if (!comment) throw new Error(`no comment at ${path}: buf lint demands one`);
  return comment;
}

/** A comment within a table, which has one line. */
function cell(comment: string): string {
  return comment
    .split(/\n{2,}/)
    .map((paragraph) => paragraph.replaceAll("\n", " ").replaceAll("|", "\\|"))
    .join("<br><br>");
}

if (import.meta.main) writeFileSync(`${root}/docs/api.md`, apiReference());
