/** A line of a file. */
export interface Line {
  /** Number of the line, starting at 1. */
  readonly number: number;
  /** Undefined if the line is not UTF-8 or is too long. */
  readonly text: string | undefined;
  /** Number of bytes up to the end of the line. */
  readonly end: number;
}

/**
 * Maximum length of a line. Even a record of 4 MiB, the maximum of a message, with every character escaped is shorter.
 */
export const MAX_LINE_BYTES = 32 * 1024 * 1024;

const NEWLINE = 0x0a;

/** Splits bytes into lines and keeps only one line in memory at a time. */
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
    const text = length > MAX_LINE_BYTES ? undefined : decodeUtf8(Buffer.concat(parts));
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

function decodeUtf8(bytes: Uint8Array): string | undefined {
  try {
    return decoder.decode(bytes);
  } catch {
    return undefined;
  }
}
