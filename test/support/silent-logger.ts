import type { Logger } from "../../src/util/logger.ts";

/** A logger that discards all lines. */
export const silentLogger: Logger = { debug() {}, info() {}, warn() {}, error() {} };
