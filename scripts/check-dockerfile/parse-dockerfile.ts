/** A command with its parameters. The shell form is converted to `/bin/sh -c`. */
export type ExecForm = readonly string[];

export interface Copy {
  readonly kind: "COPY";
  /** Name of an earlier stage; undefined for the build context. */
  readonly from: string | undefined;
  readonly sources: readonly string[];
  readonly destination: string;
}

export interface Healthcheck {
  readonly kind: "HEALTHCHECK";
  readonly command: ExecForm;
  readonly timeoutMs: number;
  /** Time after which a container that was never healthy counts as unhealthy. */
  readonly unhealthyAfterMs: number;
}

export type Instruction = { readonly text: string; readonly line: number } & (
  | Copy
  | Healthcheck
  | { readonly kind: "RUN" | "ENTRYPOINT" | "CMD"; readonly command: ExecForm }
  | { readonly kind: "ENV"; readonly variables: Readonly<Record<string, string>> }
  | { readonly kind: "WORKDIR" | "USER"; readonly value: string }
  | { readonly kind: "VOLUME" | "EXPOSE"; readonly values: readonly string[] }
);

export interface Stage {
  readonly name: string | undefined;
  /** Base image of the stage. */
  readonly image: string;
  readonly line: number;
  readonly instructions: readonly Instruction[];
}

/**
 * Parses the subset of the Dockerfile language that this repository uses.
 *
 * @throws Error that names the line for anything else, because no step may be skipped silently.
 */
export function parseDockerfile(text: string): Stage[] {
  const stages: (Stage & { instructions: Instruction[] })[] = [];
  for (const { line, text: instruction } of logicalLines(text)) {
    try {
      const [, keyword = "", rest = ""] = /^(\w+)\s+(.+)$/s.exec(instruction) ?? [];
      if (keyword === "FROM") {
        stages.push({ ...parseFrom(rest), line, instructions: [] });
        continue;
      }
      const stage = stages.at(-1);
      if (stage === undefined) throw new Error("must come after the first FROM");
      stage.instructions.push({ ...parseInstruction(keyword, rest), text: instruction, line });
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      throw new Error(`Dockerfile line ${line}: ${instruction}: ${reason}`);
    }
  }
  if (stages.length === 0) throw new Error("Dockerfile has no FROM");
  return stages;
}

/** Joins continued lines and drops comments and empty lines. */
function logicalLines(text: string): { line: number; text: string }[] {
  const result: { line: number; text: string }[] = [];
  let open: { line: number; text: string } | undefined;
  for (const [index, raw] of text.split("\n").entries()) {
    const trimmed = raw.trim();
    if (/^#\s*(escape|check)\s*=/i.test(trimmed)) {
      throw new Error(`Dockerfile line ${index + 1}: ${trimmed}: not supported by this check`);
    }
    if (trimmed === "" || trimmed.startsWith("#")) continue;
    open ??= { line: index + 1, text: "" };
    const continues = trimmed.endsWith("\\");
    open.text += continues ? `${trimmed.slice(0, -1).trimEnd()} ` : trimmed;
    if (!continues) {
      result.push(open);
      open = undefined;
    }
  }
  if (open !== undefined) result.push({ ...open, text: open.text.trimEnd() });
  return result;
}

function parseFrom(rest: string): { name: string | undefined; image: string } {
  const [, image, name] = /^([^\s$-][^\s$]*)(?:\s+AS\s+([a-z][a-z0-9_.-]*))?$/i.exec(rest) ?? [];
  if (image === undefined) throw new Error("not supported by this check");
  return { image, name };
}

type Parsed = Instruction extends infer I
  ? I extends Instruction
    ? Omit<I, "text" | "line">
    : never
  : never;

function parseInstruction(keyword: string, rest: string): Parsed {
  switch (keyword) {
    case "RUN":
      if (rest.startsWith("--") || rest.includes("<<")) throw new Error("not supported by this check");
      return { kind: keyword, command: execForm(rest) };
    case "ENTRYPOINT":
    case "CMD":
      return { kind: keyword, command: execForm(rest) };
    case "COPY":
      return parseCopy(rest);
    case "HEALTHCHECK":
      return parseHealthcheck(rest);
    case "ENV":
      return { kind: keyword, variables: parseVariables(rest) };
    case "WORKDIR":
    case "USER":
      return { kind: keyword, value: onlyPlain(rest.split(/\s+/), 1)[0] ?? "" };
    case "VOLUME":
    case "EXPOSE":
      return { kind: keyword, values: onlyPlain(rest.split(/\s+/)) };
    default:
      throw new Error("not supported by this check");
  }
}

function parseCopy(rest: string): Copy {
  const words = rest.split(/\s+/);
  const from = /^--from=(.+)$/.exec(words[0] ?? "")?.[1];
  const paths = onlyPlain(from === undefined ? words : words.slice(1));
  const destination = paths.at(-1);
  if (destination === undefined || paths.length < 2) throw new Error("requires a source and a destination");
  const sources = paths.slice(0, -1);
  if (sources.length > 1 && !destination.endsWith("/")) {
    throw new Error("a destination of several sources must end with /");
  }
  return { kind: "COPY", from, sources, destination };
}

const DURATION_UNITS_MS: Readonly<Record<string, number>> = { ms: 1, s: 1_000, m: 60_000 };

function parseHealthcheck(rest: string): Healthcheck {
  const [, options = "", command] = /^((?:--\S+\s+)*)CMD\s+(.+)$/s.exec(rest) ?? [];
  if (command === undefined) throw new Error("not supported by this check");
  // The defaults of Docker.
  const values = { interval: 30_000, timeout: 30_000, "start-period": 0, retries: 3 };
  for (const option of options.split(/\s+/).filter((word) => word !== "")) {
    const [, name = "", count, unit = ""] = /^--([a-z-]+)=(\d+)([a-z]*)$/.exec(option) ?? [];
    const factor = name === "retries" ? 1 : DURATION_UNITS_MS[unit];
    if (!isOneOf(values, name) || count === undefined || factor === undefined) {
      throw new Error(`${option} is not supported by this check`);
    }
    values[name] = Number(count) * factor;
  }
  return {
    kind: "HEALTHCHECK",
    command: execForm(command),
    timeoutMs: values.timeout,
    unhealthyAfterMs: values["start-period"] + values.retries * values.interval,
  };
}

function isOneOf<T extends object>(values: T, name: string | number | symbol): name is keyof T {
  return Object.hasOwn(values, name);
}

function parseVariables(rest: string): Record<string, string> {
  const variables: Record<string, string> = {};
  for (const word of rest.match(/(?:[^\s"]|"[^"]*")+/g) ?? []) {
    const [, name, quoted, plain] = /^([A-Za-z_]\w*)=(?:"([^"$\\]*)"|([^\s"'$\\]*))$/.exec(word) ?? [];
    if (name === undefined) throw new Error(`${word} is not supported by this check`);
    variables[name] = quoted ?? plain ?? "";
  }
  return variables;
}

function execForm(text: string): ExecForm {
  if (!text.startsWith("[")) return ["/bin/sh", "-c", text];
  const words: unknown = JSON.parse(text);
  if (!Array.isArray(words) || !words.every((word) => typeof word === "string")) {
    throw new Error("the exec form must be an array of texts");
  }
  return words;
}

/** Rejects options, variables, patterns and quotes, which this check does not support. */
function onlyPlain(words: readonly string[], count?: number): readonly string[] {
  for (const word of words) {
    if (/^--|[$*?[\]"'\\]/.test(word)) throw new Error(`${word} is not supported by this check`);
  }
  if (count !== undefined && words.length !== count) throw new Error("not supported by this check");
  return words;
}
