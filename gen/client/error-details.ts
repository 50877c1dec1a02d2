import { fromBinary } from "@bufbuild/protobuf";
import { BinaryReader } from "@bufbuild/protobuf/wire";
import { DurationSchema } from "@bufbuild/protobuf/wkt";
import type { ConnectError } from "@connectrpc/connect";
import type { FieldViolation } from "./errors.ts";

/** Content of the details of an error. */
export interface ErrorDetails {
  /** Name of the reason, from an ErrorInfo of this service. */
  readonly reason?: string;
  readonly metadata?: Readonly<Record<string, string>>;
  readonly violations?: readonly FieldViolation[];
  readonly retryAfterMs?: number;
}

/** The `domain` of this service's ErrorInfo messages. In other domains the same reason can mean something else. */
const errorDomain = "memoryservice.v1";

/**
 * Reads the details that the server sends with an error. Skips unknown and unreadable details.
 *
 * It decodes the google.rpc messages by hand: generated ones would have to be part of this package, and would then
 * conflict with those that other packages register.
 */
export function readErrorDetails(error: ConnectError): ErrorDetails {
  const found: ErrorDetails = {};
  for (const detail of error.details) {
    if (!("type" in detail)) continue;
    try {
      Object.assign(found, decoders[detail.type]?.(detail.value));
    } catch {
      // A damaged detail must not hide the error that carries it.
    }
  }
  return found;
}

const decoders: Partial<Record<string, (bytes: Uint8Array) => ErrorDetails>> = {
  "google.rpc.ErrorInfo": readErrorInfo,
  "google.rpc.BadRequest": readBadRequest,
  "google.rpc.RetryInfo": readRetryInfo,
};

function readErrorInfo(bytes: Uint8Array): ErrorDetails {
  let reason = "";
  let domain = "";
  const metadata: [string, string][] = [];
  readFields(bytes, {
    1: (reader) => {
      reason = reader.string();
    },
    2: (reader) => {
      domain = reader.string();
    },
    3: (reader) => metadata.push(readStringPair(reader.bytes())),
  });
  return domain === errorDomain ? { reason, metadata: Object.fromEntries(metadata) } : {};
}

function readBadRequest(bytes: Uint8Array): ErrorDetails {
  const violations: FieldViolation[] = [];
  readFields(bytes, {
    1: (reader) => {
      const [field, description] = readStringPair(reader.bytes());
      violations.push({ field, description });
    },
  });
  return { violations };
}

function readRetryInfo(bytes: Uint8Array): ErrorDetails {
  let retryAfterMs: number | undefined;
  readFields(bytes, {
    1: (reader) => {
      const { seconds, nanos } = fromBinary(DurationSchema, reader.bytes());
      retryAfterMs = Math.max(0, Number(seconds) * 1_000 + nanos / 1_000_000);
    },
  });
  return retryAfterMs === undefined ? {} : { retryAfterMs };
}

/** Reads a message whose fields 1 and 2 are strings: a map entry or a FieldViolation. */
function readStringPair(bytes: Uint8Array): [string, string] {
  const pair: [string, string] = ["", ""];
  readFields(bytes, {
    1: (reader) => {
      pair[0] = reader.string();
    },
    2: (reader) => {
      pair[1] = reader.string();
    },
  });
  return pair;
}

/** Reads the length-delimited fields that have a reader, and skips all others. */
function readFields(
  bytes: Uint8Array,
  readers: Partial<Record<number, (reader: BinaryReader) => void>>,
): void {
  const lengthDelimited = 2;
  const reader = new BinaryReader(bytes);
  while (reader.pos < reader.len) {
    const [number, wireType] = reader.tag();
    const read = wireType === lengthDelimited ? readers[number] : undefined;
    if (read === undefined) reader.skip(wireType);
    else read(reader);
  }
}
