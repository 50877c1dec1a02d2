/** What a compose file is made of. */
export type ComposeValue = string | ComposeValue[] | ComposeMap;
export interface ComposeMap {
  readonly [key: string]: ComposeValue;
}

interface Line {
  readonly number: number;
  readonly indent: number;
  readonly text: string;
}

/**
 * Reads the part of YAML that ours is written in: maps by indentation, lists of single values, values on their line.
 * An empty value is an empty map.
 *
 * @throws Error that names the line, for everything else.
 */
export function readCompose(text: string): ComposeMap {
  const lines: Line[] = text
    .split("\n")
    .map((raw, index) => ({ number: index + 1, indent: raw.search(/\S/), text: raw.trim() }))
    .filter((line) => line.text !== "" && !line.text.startsWith("#"));
  const value = readBlock(lines, 0);
  const rest = lines[0];
  if (rest !== undefined) throw notUnderstood(rest);
  if (typeof value === "string" || Array.isArray(value)) throw new Error("the file is not a map");
  return value;
}

/** Takes the lines of one block from the front; all have this indentation or a deeper one. */
function readBlock(lines: Line[], indent: number): ComposeValue {
  if (lines[0]?.text.startsWith("- ") && lines[0].indent === indent) {
    const items: string[] = [];
    for (let line = lines[0]; line?.indent === indent && line.text.startsWith("- "); line = lines[0]) {
      lines.shift();
      items.push(readScalar(line, line.text.slice(2)));
    }
    return items;
  }
  const map: Record<string, ComposeValue> = {};
  for (let line = lines[0]; line?.indent === indent; line = lines[0]) {
    lines.shift();
    const [, key, value] = /^([A-Za-z_][\w-]*):(?: +(.+))?$/.exec(line.text) ?? [];
    if (key === undefined || key in map) throw notUnderstood(line);
    const next = lines[0];
    if (value !== undefined) map[key] = readScalar(line, value);
    else map[key] = next !== undefined && next.indent > indent ? readBlock(lines, next.indent) : {};
  }
  return map;
}

function readScalar(line: Line, text: string): string {
  const quoted = /^"([^"\\]*)"$/.exec(text)?.[1];
  // What begins otherwise is a quote, an anchor, a block or a map to YAML; ": " and " #" end a plain value.
  const plain = /^(?!true$|false$|null$|yes$|no$)[A-Za-z0-9./$_-]/.test(text) && !/: | #|\t/.test(text);
  if (quoted === undefined && !plain) throw notUnderstood(line);
  return quoted ?? text;
}

function notUnderstood(line: Line): Error {
  return new Error(`compose file line ${line.number}: ${line.text}: not understood by this test`);
}
