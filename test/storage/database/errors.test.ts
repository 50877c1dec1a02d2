import { describe, expect, it } from "vitest";
import { ServiceError } from "../../../src/memory/model/errors.ts";
import { DatabaseError } from "../../../src/storage/database/database.ts";
import { isConnectionLost, mapDatabaseError, sqlstateOf } from "../../../src/storage/database/errors.ts";

const answer = (code: string, constraint?: string) =>
  Object.assign(new Error("driver text"), { code, severity: "ERROR", constraint });
const socketError = (code: string) => Object.assign(new Error("driver text"), { code, syscall: "connect" });

describe("mapDatabaseError", () => {
  const conditions: Array<[error: Error, reason: string, retryAfterMs: number | undefined]> = [
    [answer("40001"), "CONFLICT", 50],
    [answer("40P01"), "CONFLICT", 50],
    [answer("55P03"), "CONFLICT", 50],
    [answer("57014"), "DEADLINE_EXCEEDED", undefined],
    [answer("53300"), "OVERLOADED", 500],
    [answer("53100"), "STORAGE_FULL", undefined],
    [answer("53200"), "STORAGE_FULL", undefined],
    [answer("25006"), "DATABASE_UNAVAILABLE", 1_000],
    [answer("57P01"), "DATABASE_UNAVAILABLE", 1_000],
    [answer("57P02"), "DATABASE_UNAVAILABLE", 1_000],
    [answer("57P03"), "DATABASE_UNAVAILABLE", 1_000],
    [answer("08006"), "DATABASE_UNAVAILABLE", 1_000],
    [answer("28P01"), "DATABASE_UNAVAILABLE", 1_000],
    [answer("3D000"), "DATABASE_UNAVAILABLE", 1_000],
    [socketError("ECONNREFUSED"), "DATABASE_UNAVAILABLE", 1_000],
    [socketError("ECONNRESET"), "DATABASE_UNAVAILABLE", 1_000],
    [socketError("EPIPE"), "DATABASE_UNAVAILABLE", 1_000],
    [socketError("ENOTFOUND"), "DATABASE_UNAVAILABLE", 1_000],
    [new Error("Connection terminated unexpectedly"), "DATABASE_UNAVAILABLE", 1_000],
    [
      new Error("Client has encountered a connection error and is not queryable"),
      "DATABASE_UNAVAILABLE",
      1_000,
    ],
    [new Error("timeout exceeded when trying to connect"), "DATABASE_UNAVAILABLE", 1_000],
    [new TypeError("a defect"), "INTERNAL", undefined],
  ];
  it.each(conditions)("maps %o to %s", (error, reason, retryAfterMs) => {
    const mapped = mapDatabaseError(error);
    expect(mapped).toMatchObject({ name: "ServiceError", reason, retryAfterMs, cause: error });
    expect(mapped.message).not.toContain(error.message);
  });

  it("leaves other states to the caller, with the constraint", () => {
    const mapped = mapDatabaseError(answer("23505", "things_pkey"));
    expect(mapped).toBeInstanceOf(DatabaseError);
    expect(mapped).toMatchObject({ sqlstate: "23505", constraint: "things_pkey" });
    expect(mapped.message).not.toContain("driver text");
  });

  it("returns what is mapped already", () => {
    const service = new ServiceError("CONFLICT", "x");
    const database = new DatabaseError("23505", "x", {});
    expect(mapDatabaseError(service)).toBe(service);
    expect(mapDatabaseError(database)).toBe(database);
  });
});

describe("sqlstateOf", () => {
  it("finds the server's answer behind a mapped error", () => {
    expect(sqlstateOf(mapDatabaseError(answer("28P01")))).toBe("28P01");
    expect(sqlstateOf(mapDatabaseError(answer("42P01")))).toBe("42P01");
  });

  it("does not take a socket's error for a state", () => {
    expect(sqlstateOf(socketError("EPIPE"))).toBeUndefined();
    expect(isConnectionLost(socketError("EPIPE"))).toBe(true);
  });
});
