import type { Config } from "../../app/config.ts";
import type { PostgresAddress } from "../../storage/database/postgres-database.ts";
import { isLoopbackHost } from "../../util/loopback.ts";

/** An address and port as a URL has them: IPv6 in brackets. */
export function hostAndPort(host: string, port: number | string): string {
  return `${host.includes(":") ? `[${host}]` : host}:${port}`;
}

/** Where the data is, for people: without user and password. */
export function databaseName({ settings, postgres }: Config): string {
  if (postgres === undefined) return settings.MEMORY_DATA_DIR;
  const { host, port, database } = postgresEndpoint(postgres);
  return `${host.startsWith("/") ? `${host}:${port}` : hostAndPort(host, port)}/${database}`;
}

/** Host, port and database of a PostgreSQL; the host is a directory where it is a Unix socket. */
export function postgresEndpoint(address: PostgresAddress): { host: string; port: number; database: string } {
  if (!("connectionString" in address)) return address;
  const url = new URL(address.connectionString.replace("@/", "@socket/"));
  const named = decodeURIComponent(url.hostname);
  const host = url.searchParams.get("host") ?? (named === "socket" ? "" : named);
  return {
    host: host === "" ? "localhost" : host.replace(/^\[(.*)\]$/, "$1"),
    port: Number(url.searchParams.get("port") ?? (url.port || 5432)),
    database: decodeURIComponent(url.pathname.slice(1)) || decodeURIComponent(url.username),
  };
}

/** A URL for people: without user, password and query. */
export function withoutSecrets(url: string): string {
  const { origin, pathname } = new URL(url);
  return `${origin}${pathname.replace(/\/+$/, "")}`;
}

/**
 * True if what is sent to the host surely leaves this machine's own networks. Names without a dot are those of
 * containers on one bridge.
 */
export function isRemote(host: string): boolean {
  const name = host.replace(/^\[(.*)\]$/, "$1");
  if (isLoopbackHost(name) || name.startsWith("/") || name === "host.docker.internal") return false;
  return name.includes(".") || name.includes(":");
}
