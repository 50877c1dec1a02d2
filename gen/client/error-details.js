import { fromBinary } from "@bufbuild/protobuf";
import { BinaryReader } from "@bufbuild/protobuf/wire";
import { DurationSchema } from "@bufbuild/protobuf/wkt";

/** @import { ConnectError } from "@connectrpc/connect" */

/**
 * What the details of an error say. google.rpc's messages are read by hand: generated ones would have to be
 * published here, and would clash with those that other packages bring.
 *
 * @typedef {object} ErrorDetails
 * @property {string} [reason] of an ErrorInfo of this service
 * @property {Record<string, string>} [metadata]
 * @property {{ field: string, description: string }[]} [violations]
 * @property {number} [retryAfterMs]
 */

/** The `domain` of the service's ErrorInfos: reasons of others mean something else. */
const errorDomain = "memoryservice.v1";

/**
 * Reads the details that the service sends. Others, and those that cannot be read, are left out.
 *
 * @param {ConnectError} error
 * @returns {ErrorDetails}
 */
export function readErrorDetails(error) {
  /** @type {ErrorDetails} */
  const found = {};
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

/** @type {Partial<Record<string, (bytes: Uint8Array) => ErrorDetails>>} */
const decoders = {
  "google.rpc.ErrorInfo": readErrorInfo,
  "google.rpc.BadRequest": readBadRequest,
  "google.rpc.RetryInfo": readRetryInfo,
};

/** @param {Uint8Array} bytes */
function readErrorInfo(bytes) {
  let reason = "";
  let domain = "";
  /** @type {[string, string][]} */
  const metadata = [];
  readFields(bytes, {
    1: (reader) => {
      reason = reader.string();
    },
    2: (reader) => {
      domain = reader.string();
    },
    3: (reader) => metadata.push(readPair(reader.bytes())),
  });
  return domain === errorDomain ? { reason, metadata: Object.fromEntries(metadata) } : {};
}

/** @param {Uint8Array} bytes */
function readBadRequest(bytes) {
  /** @type {{ field: string, description: string }[]} */
  const violations = [];
  readFields(bytes, {
    1: (reader) => {
      const [field, description] = readPair(reader.bytes());
      violations.push({ field, description });
    },
  });
  return { violations };
}

/** @param {Uint8Array} bytes */
function readRetryInfo(bytes) {
  /** @type {number | undefined} */
  let retryAfterMs;
  readFields(bytes, {
    1: (reader) => {
      const { seconds, nanos } = fromBinary(DurationSchema, reader.bytes());
      retryAfterMs = Math.max(0, Number(seconds) * 1_000 + nanos / 1_000_000);
    },
  });
  return retryAfterMs === undefined ? {} : { retryAfterMs };
}

/**
 * A message of two strings: an entry of a map, a FieldViolation.
 *
 * @param {Uint8Array} bytes
 * @returns {[string, string]}
 */
function readPair(bytes) {
  /** @type {[string, string]} */
  const pair = ["", ""];
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

/**
 * Reads the fields that have a reader (all of them length-delimited) and skips the others.
 *
 * @param {Uint8Array} bytes
 * @param {Partial<Record<number, (reader: BinaryReader) => void>>} fields
 */
function readFields(bytes, fields) {
  const lengthDelimited = 2;
  const reader = new BinaryReader(bytes);
  while (reader.pos < reader.len) {
    const [number, wireType] = reader.tag();
    const read = wireType === lengthDelimited ? fields[number] : undefined;
    if (read === undefined) reader.skip(wireType);
    else read(reader);
  }
}
