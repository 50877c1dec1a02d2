import {
  ConnectError,
  type ContextValues,
  createContextKey,
  type Interceptor,
  type StreamRequest,
  type StreamResponse,
  type UnaryResponse,
} from "@connectrpc/connect";
import { codeToString } from "@connectrpc/connect/protocol-connect";
import type {
  ImportRequest,
  ImportResponse,
} from "memory-service-client/memoryservice/v1/memory_service_pb.js";
import type { AuditLog } from "../../auth/audit-log.ts";
import { ErrorInfoSchema } from "../../generated/google/rpc/error_details_pb.ts";
import { type AuditFacts, createDomainList, importFacts } from "../audit-facts.ts";
import { kCall } from "../call-log.ts";
import { kCaller } from "../caller.ts";
import { methodRuleOf } from "../methods.ts";

const kDone = createContextKey<AuditFacts>({}, { description: "what a call has done so far" });

/** Records what the call has done so far, for its audit entry if it fails. Replaces what was recorded before. */
export function noteDone(context: { readonly values: ContextValues }, facts: AuditFacts): void {
  context.values.set(kDone, facts);
}

type Note = (facts: AuditFacts) => void;
type NoteFailure = (asked: AuditFacts, error: unknown) => void;

/**
 * Creates the interceptor that writes the audit log: one entry for every call that stores, changes or deletes
 * something, including failed and refused calls. It writes the entry after the handler and before the response. It must
 * be outside the error interceptor, so that it sees the error that the caller receives.
 */
export function createAuditInterceptor(options: {
  readonly audit: AuditLog;
  readonly defaultDomain: string;
}): Interceptor {
  const { audit, defaultDomain } = options;

  const write = (
    values: ContextValues,
    action: string,
    facts: AuditFacts & { readonly outcome?: unknown },
  ) => {
    const { outcome = "done", ...more } = facts;
    audit.write({
      who: values.get(kCaller).name || "anonymous",
      action,
      ...more,
      outcome: String(outcome),
      requestId: values.get(kCall)?.requestId,
    });
  };

  return (next) => async (request) => {
    const { method, contextValues } = request;
    const rule = methodRuleOf(method)?.audit ?? "unaudited";
    if (rule === "unaudited") return await next(request);
    const note: Note = (facts) => write(contextValues, method.name, facts);
    const noteFailure: NoteFailure = (asked, error) =>
      note({ ...asked, ...contextValues.get(kDone), ...failure(error) });
    const mayWrite = (domain: string) => contextValues.get(kCaller).may("write", domain);
    if (rule === "per-message")
      return request.stream
        ? await auditImport(request, next, note, noteFailure, createDomainList(defaultDomain, mayWrite))
        : await next(request);
    const asked = request.stream ? undefined : rule.request(request.message, defaultDomain, mayWrite);
    if (asked === undefined) return await next(request);
    try {
      const response = await next(request);
      if (!response.stream) note({ ...asked, ...rule.response(response.message) });
      return response;
    } catch (error) {
      noteFailure(asked, error);
      throw error;
    }
  };
}

/** Logs the domains and counts of an import, not its records: their number is not limited. */
async function auditImport(
  request: StreamRequest,
  next: (request: StreamRequest) => Promise<UnaryResponse | StreamResponse>,
  note: Note,
  noteFailure: NoteFailure,
  domains: ReturnType<typeof createDomainList>,
): Promise<UnaryResponse | StreamResponse> {
  let into = "";
  async function* watched(messages: AsyncIterable<unknown>) {
    for await (const message of messages as AsyncIterable<ImportRequest>) {
      const { item } = message;
      if (item.case === "options") into = item.value.domain;
      const domain = into || (item.case === "record" ? (item.value.memory?.domain ?? "") : undefined);
      if (domain !== undefined) domains.add(domain);
      yield message;
    }
  }
  async function* answered(messages: AsyncIterable<unknown>) {
    try {
      for await (const message of messages as AsyncIterable<ImportResponse>) {
        note({ domains: domains.names(), ...importFacts(message), outcome: "done" });
        yield message;
      }
    } catch (error) {
      noteFailure({ domains: domains.names() }, error);
      throw error;
    }
  }
  try {
    const response = await next({ ...request, message: watched(request.message) } as StreamRequest);
    return response.stream ? { ...response, message: answered(response.message) } : response;
  } catch (error) {
    noteFailure({ domains: domains.names() }, error);
    throw error;
  }
}

function failure(error: unknown): AuditFacts {
  const thrown = ConnectError.from(error);
  const [info] = thrown.findDetails(ErrorInfoSchema);
  return { outcome: "failed", reason: info?.reason ?? codeToString(thrown.code) };
}
