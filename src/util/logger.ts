import type { Logger as PinoLogger } from "pino";

/** A structured logger, which takes the fields first and then a short message. */
export type Logger = Pick<PinoLogger, "debug" | "info" | "warn" | "error">;

/** A logger that discards every line. */
export const silentLogger: Logger = { debug() {}, info() {}, warn() {}, error() {} };
