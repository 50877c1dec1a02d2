import { auditIntoFile, auditIntoLog } from "../auth/audit-log.ts";
import { createAuthenticator } from "../auth/authenticator.ts";
import { readTls } from "../auth/read-tls.ts";
import { Health as HealthService } from "../generated/grpc/health/v1/health_pb.ts";
import { LIMITS } from "../memory/model/limits.ts";
import { createAuditInterceptor } from "../rpc/interceptors/audit.ts";
import { createAuthorizeInterceptor } from "../rpc/interceptors/authorize.ts";
import { createErrorInterceptor } from "../rpc/interceptors/errors.ts";
import { createTraceInterceptor } from "../rpc/interceptors/trace-calls.ts";
import { createHealth } from "../rpc/services/health.ts";
import { createReflection } from "../rpc/services/reflection.ts";
import { type Listener, startListener } from "../server/listener.ts";
import { type Cleanup, createCleanup } from "../util/cleanup.ts";
import type { Logger } from "../util/logger.ts";
import { isLoopbackHost } from "../util/loopback.ts";
import type { Config } from "./config.ts";
import { startHealthMonitor } from "./health-monitor.ts";
import { openServices } from "./open-services.ts";

/** A running server. */
export interface App {
  /** URL of the server, such as `http://127.0.0.1:50051`. */
  readonly url: string;
  /** Stops the server; running calls get MEMORY_SHUTDOWN_GRACE_MS to finish. Idempotent. */
  close(): Promise<void>;
}

/**
 * Creates the parts of the server and starts it.
 *
 * @throws StartupError with one sentence for the operator, after it has closed everything.
 */
export async function startApp(config: Config, logger: Logger): Promise<App> {
  const cleanup = createCleanup();
  try {
    return { url: await wire(config, logger, cleanup), close: () => cleanup.run() };
  } catch (error) {
    await cleanup.run();
    throw error;
  }
}

/** Opens everything in order, adds a step to `cleanup` for each part, and returns the URL. */
async function wire(config: Config, logger: Logger, cleanup: Cleanup): Promise<string> {
  const { settings } = config;
  const authenticator = await createAuthenticator(settings, logger);
  cleanup.defer(async () => authenticator?.close());
  let listener: Listener | undefined;
  const tls = await readTls(settings, (credentials) => listener?.replaceTls(credentials), logger);
  cleanup.defer(async () => tls?.close());
  const { MEMORY_AUDIT_FILE: auditFile } = settings;
  const audit = auditFile === undefined ? auditIntoLog(logger) : auditIntoFile(auditFile, logger);
  cleanup.defer(async () => audit.close());
  const services = await openServices(config, logger, cleanup);
  const { descriptors, database, embedder, metrics, tracer } = services;

  const health = createHealth({ services: ["", ...descriptors.map(({ typeName }) => typeName), "embedder"] });
  const watch = startHealthMonitor({ database, embedder, health, services: descriptors, logger });
  cleanup.defer(() => watch.close());
  const reflection = settings.MEMORY_REFLECTION
    ? createReflection([...descriptors, HealthService])
    : () => {};

  listener = await startListener({
    host: settings.MEMORY_HOST,
    port: settings.MEMORY_PORT,
    routes: (router) => {
      services.routes(router);
      health.routes(router);
      reflection(router);
    },
    interceptors: [
      createTraceInterceptor(tracer),
      createAuditInterceptor({ audit, defaultDomain: settings.DEFAULT_MEMORY_DOMAIN }),
      createErrorInterceptor({ logger }),
      createAuthorizeInterceptor({ defaultDomain: settings.DEFAULT_MEMORY_DOMAIN }),
    ],
    authenticator,
    tls: tls?.current(),
    maxMessageBytes: LIMITS.messageBytes,
    maxCalls: settings.MEMORY_MAX_CALLS,
    allowedHosts: settings.MEMORY_ALLOWED_HOSTS ?? [],
    allowedOrigins: settings.MEMORY_ALLOWED_ORIGINS ?? [],
    readiness: watch.readiness,
    onCall: metrics?.countCall,
    metrics: metrics?.report,
    shutdown: { graceMs: settings.MEMORY_SHUTDOWN_GRACE_MS },
    logger,
  });
  const { url, close } = listener;
  cleanup.defer(async () => {
    health.shutdown();
    await close();
  });

  if (authenticator !== undefined && tls === undefined && !isLoopbackHost(settings.MEMORY_HOST)) {
    logger.warn(
      {},
      "clients send credentials in plain text; set MEMORY_TLS_CERT_FILE, or terminate TLS in a proxy",
    );
  }
  logger.info({ url, engine: database.engine }, "serving");
  return url;
}
