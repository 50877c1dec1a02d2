import type { Config } from "../../app/config.ts";
import type { PostgresAddress } from "../../storage/database/server/postgres-database.ts";
import { isLoopbackHost } from "../../util/loopback.ts";

/** Joins a host and a port as in a URL, with IPv6 addresses in brackets. */
export function hostAndPort(host: string, port: number | string): string {
  return `${host.includes(":") ? `[${host}]` : host}:${port}`;
}

/** Names the database or data directory for display, without user and password. */
export function databaseName({ settings, postgres }: Config): string {
  if (postgres === undefined) return settings.MEMORY_DATA_DIR;
  const { host, port, database } = postgresEndpoint(postgres);
  return `${host.startsWith("/") ? `${host}:${port}` : hostAndPort(host, port)}/${database}`;
}

/** Returns the host, port and database of a PostgreSQL address. For a Unix socket, the host is a directory. */
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

/** Formats a URL for display, without user, password and query. */
export function withoutSecrets(url: string): string {
  const { origin, pathname } = new URL(url);
  return `${origin}${pathname.replace(/\/+$/, "")}`;
}

/**
 * Returns true if traffic to the host certainly leaves this machine. A name without a dot counts as local, because
 * containers on the same bridge network have such names.
 */
export function isRemote(host: string): boolean {
  const name = host.replace(/^\[(.*)\]$/, "$1");
  if (isLoopbackHost(name) || name.startsWith("/") || name === "host.docker.internal") return false;
  return name.includes(".") || name.includes(":");
}
