/** A line of a file. */
export interface Line {
  /** From 1. */
  readonly number: number;
  /** Undefined if it is no UTF-8, or too long. */
  readonly text: string | undefined;
  /** Bytes read up to its end. */
  readonly end: number;
}

/** A record of the 4 MiB that a message may have, with every character escaped, would be shorter. */
export const MAX_LINE_BYTES = 32 * 1024 * 1024;

const NEWLINE = 0x0a;

/** Reads lines, one in memory at a time. */
export async function* readLines(bytes: AsyncIterable<Uint8Array>): AsyncGenerator<Line> {
  let parts: Uint8Array[] = [];
  let length = 0;
  let number = 0;
  let end = 0;
  const keep = (part: Uint8Array) => {
    length += part.length;
    if (length <= MAX_LINE_BYTES) parts.push(part);
    else parts = [];
  };
  const take = (): Line => {
    const text = length > MAX_LINE_BYTES ? undefined : decoded(Buffer.concat(parts));
    parts = [];
    length = 0;
    number++;
    return { number, text, end };
  };
  for await (const chunk of bytes) {
    let start = 0;
    for (let at = chunk.indexOf(NEWLINE); at >= 0; at = chunk.indexOf(NEWLINE, start)) {
      keep(chunk.subarray(start, at));
      end += at + 1 - start;
      start = at + 1;
      yield take();
    }
    if (start < chunk.length) {
      keep(chunk.subarray(start));
      end += chunk.length - start;
    }
  }
  if (length > 0) yield take();
}

const decoder = new TextDecoder("utf-8", { fatal: true });

function decoded(bytes: Uint8Array): string | undefined {
  try {
    return decoder.decode(bytes);
  } catch {
    return undefined;
  }
}
