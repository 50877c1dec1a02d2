import { createReadStream } from "node:fs";

/** A part of a JSON file whose top-level value is an object. */
export type Member =
  /** The next element of the list or object under `key`; `name` is its key in an object. */
  | {
      readonly kind: "element";
      readonly key: string;
      readonly name: string | undefined;
      readonly json: string;
    }
  /** The value under `key`, if it is neither a list nor an object. */
  | { readonly kind: "value"; readonly key: string; readonly json: string }
  /**
   * The last member. `problem` is undefined if the file is complete. Otherwise it is a predicate that follows the name
   * of the file, and `unreadFrom` is the byte at which reading stopped.
   */
  | { readonly kind: "end"; readonly problem: string | undefined; readonly unreadFrom?: number };

/** Maximum size of an element; a file with a larger one counts as damaged. */
const MAX_ELEMENT_BYTES = 256 * 1024 * 1024;

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const OPEN_OBJECT = 0x7b;
const CLOSE_OBJECT = 0x7d;
const OPEN_LIST = 0x5b;
const CLOSE_LIST = 0x5d;
const COMMA = 0x2c;
const COLON = 0x3a;
const isSpace = (byte: number) => byte === 0x20 || (byte >= 0x09 && byte <= 0x0d);

/**
 * Reads a JSON file of any size element by element, up to the first damage. The elements are only delimited; the caller
 * parses and validates them.
 */
export async function* readJsonMembers(
  path: string,
  signal?: AbortSignal,
): AsyncGenerator<Member, void, undefined> {
  const bytes = createReader(path, signal);
  /** Position after the last value that was read. */
  let readTo = 0;
  const damaged = (what: string): Member => ({ kind: "end", problem: what, unreadFrom: readTo });
  try {
    if ((await bytes.nextNonSpace()) !== OPEN_OBJECT) {
      yield damaged(bytes.count() === 0 ? "is empty" : "does not start with a JSON object");
      return;
    }
    let next = await bytes.nextNonSpace();
    while (next !== CLOSE_OBJECT) {
      const key = await readKey(next);
      next = await bytes.nextNonSpace();
      if (next === OPEN_LIST || next === OPEN_OBJECT) {
        const closing = next === OPEN_LIST ? CLOSE_LIST : CLOSE_OBJECT;
        next = await bytes.nextNonSpace();
        while (next !== closing) {
          const name = closing === CLOSE_OBJECT ? await readKey(next) : undefined;
          const { json, after } = await readValue(name === undefined ? next : await bytes.nextNonSpace());
          yield { kind: "element", key, name, json };
          readTo = bytes.count() - 1;
          next = await readSeparator(after, closing);
        }
        next = await readSeparator(await bytes.nextNonSpace(), CLOSE_OBJECT);
      } else {
        const { json, after } = await readValue(next);
        yield { kind: "value", key, json };
        readTo = bytes.count() - 1;
        next = await readSeparator(after, CLOSE_OBJECT);
      }
    }
    readTo = bytes.count();
    const rest = await bytes.nextNonSpace().catch(() => undefined);
    yield rest === undefined ? { kind: "end", problem: undefined } : damaged("has data after its end");
  } catch (error) {
    if (!(error instanceof DamageError)) throw error;
    yield damaged(error.message);
  } finally {
    bytes.close();
  }

  async function readKey(first: number): Promise<string> {
    if (first !== QUOTE) throw unexpected();
    const { json, after } = await readValue(first);
    if (after !== COLON) throw unexpected();
    try {
      return String(JSON.parse(json));
    } catch {
      throw unexpected();
    }
  }

  /** Returns the closing bracket after an element, or the first byte after its comma. */
  async function readSeparator(byte: number, closing: number): Promise<number> {
    if (byte === closing) return byte;
    if (byte !== COMMA) throw unexpected();
    return await bytes.nextNonSpace();
  }

  /** Reads to the end of the value. Returns its JSON and the first byte after it that is not white space. */
  async function readValue(first: number): Promise<{ json: string; after: number }> {
    const collected = bytes.collect();
    let depth = 0;
    let byte = first;
    let quoted = false;
    const isScalar = first !== QUOTE && first !== OPEN_LIST && first !== OPEN_OBJECT;
    if (isScalar && (first === COMMA || first === COLON || first === CLOSE_LIST || first === CLOSE_OBJECT)) {
      throw unexpected();
    }
    for (;;) {
      if (quoted) {
        if (byte === BACKSLASH) await bytes.refilled(bytes.next());
        else if (byte === QUOTE) quoted = false;
      } else if (byte === QUOTE) quoted = true;
      else if (byte === OPEN_LIST || byte === OPEN_OBJECT) depth++;
      else if (byte === CLOSE_LIST || byte === CLOSE_OBJECT) depth--;
      if (depth === 0 && !quoted && !isScalar) {
        const json = collected.end();
        return { json, after: await bytes.nextNonSpace() };
      }
      const read = bytes.next();
      byte = read ?? (await bytes.refilled(read));
      const ends = byte === COMMA || byte === CLOSE_LIST || byte === CLOSE_OBJECT || isSpace(byte);
      if (isScalar && ends) {
        const json = collected.end(1);
        return { json, after: isSpace(byte) ? await bytes.nextNonSpace() : byte };
      }
    }
  }

  function unexpected(): DamageError {
    return new DamageError(`is not JSON from byte ${bytes.count()} on`);
  }
}

/** The file is damaged at the current position. */
class DamageError extends Error {}

/** Creates a reader that returns a file byte by byte and collects the bytes of a value. */
function createReader(path: string, signal: AbortSignal | undefined) {
  const stream = createReadStream(path, { highWaterMark: 256 * 1024, signal });
  const blocks = stream.iterator() as AsyncIterator<Buffer>;
  let block: Buffer = Buffer.alloc(0);
  let at = 0;
  let passed = 0;
  let parts: Buffer[] | undefined;
  let partStart = 0;
  let partBytes = 0;
  const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

  async function refill(): Promise<void> {
    if (parts !== undefined) {
      parts.push(block.subarray(partStart));
      partBytes += block.length - partStart;
      partStart = 0;
      if (partBytes > MAX_ELEMENT_BYTES)
        throw new DamageError(`has an element of more than ${MAX_ELEMENT_BYTES} bytes`);
    }
    passed += block.length;
    const { done, value } = await blocks.next();
    at = 0;
    block = Buffer.alloc(0);
    if (done === true) throw new DamageError("ends prematurely");
    block = value;
    // Skip the byte order mark that some editors write.
    if (passed === 0 && block[0] === 0xef && block[1] === 0xbb && block[2] === 0xbf) at = 3;
  }

  const reader = {
    /** Returns the next byte, or undefined if the block is used up; awaiting every byte would be slow. */
    next(): number | undefined {
      return at < block.length ? block[at++] : undefined;
    },
    /** Returns the byte if it is defined, otherwise the first byte of the next block. */
    async refilled(byte: number | undefined): Promise<number> {
      if (byte !== undefined) return byte;
      while (at >= block.length) await refill();
      return block[at++] ?? 0;
    },
    /** Returns the next byte that is not white space. */
    async nextNonSpace(): Promise<number> {
      for (;;) {
        while (at < block.length) {
          const byte = block[at++] ?? 0;
          if (!isSpace(byte)) return byte;
        }
        await refill();
      }
    },
    /** Collects bytes, starting with the one just read. `end(n)` returns them without the last n bytes. */
    collect() {
      parts = [];
      partBytes = 0;
      partStart = at - 1;
      return {
        end(without = 0): string {
          const last = block.subarray(partStart, at - without);
          const all = parts === undefined || parts.length === 0 ? last : Buffer.concat([...parts, last]);
          parts = undefined;
          try {
            return decoder.decode(all);
          } catch {
            throw new DamageError(`is not UTF-8 before byte ${reader.count()}`);
          }
        },
      };
    },
    count: () => passed + at,
    close: () => stream.destroy(),
  };
  return reader;
}
