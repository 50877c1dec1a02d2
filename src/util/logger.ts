import type { Logger as PinoLogger } from "pino";

/** The structured logger that is passed to whoever logs: fields first, then a short sentence. */
export type Logger = Pick<PinoLogger, "debug" | "info" | "warn" | "error">;

/** A logger that discards every line. */
export const silentLogger: Logger = { debug() {}, info() {}, warn() {}, error() {} };
