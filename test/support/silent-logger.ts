import type { Logger } from "../../src/util/logger.ts";

/** A logger that keeps quiet. */
export const silentLogger: Logger = { debug() {}, info() {}, warn() {}, error() {} };
