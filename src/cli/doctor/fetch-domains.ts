import { createClient } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-node";
import { type Domain, DomainService } from "memory-service-client/memoryservice/v1/domain_service_pb.js";
import type { SettingValues } from "../../app/config.ts";
import { readClientTls } from "../client/client-tls.ts";
import type { InspectedDomain } from "./inspect-domains.ts";

/** Long enough to count every memory of a large domain. */
const TIMEOUT_MS = 60_000;

/**
 * Lists the domains of a running server, for a database that cannot be opened while the server runs. Memories with an
 * older embedding version count as pending.
 *
 * @throws ConnectError
 */
export async function fetchDomains(url: string, settings: SettingValues): Promise<InspectedDomain[]> {
  const nodeOptions = url.startsWith("https:") ? await readClientTls(settings) : {};
  const transport = createConnectTransport({ baseUrl: url, httpVersion: "1.1", nodeOptions });
  const service = createClient(DomainService, transport);
  const { MEMORY_API_KEY: apiKey } = settings;
  const headers: Record<string, string> = apiKey === undefined ? {} : { authorization: `Bearer ${apiKey}` };
  const domains: InspectedDomain[] = [];
  let pageToken = "";
  do {
    const page = await service.listDomains({ pageToken }, { timeoutMs: TIMEOUT_MS, headers });
    domains.push(...page.domains.map(inspectedFrom));
    pageToken = page.nextPageToken;
  } while (pageToken !== "");
  return domains;
}

function inspectedFrom(domain: Domain): InspectedDomain {
  const version = domain.embeddingVersion;
  return {
    report: {
      name: domain.name,
      model: version?.model ?? null,
      dimensions: version?.dimensions ?? null,
      embeddingVersion: version?.version ?? null,
      memories: Number(domain.memoryCount),
      pending: Number(domain.pendingCount),
      failed: Number(domain.failedCount),
      olderVersions: 0,
    },
    digest: version?.modelDigest ?? "",
    profile: version?.profile ?? "",
    // The running server itself re-embeds domains when the configured model changes.
    ownModel: true,
    failureReason: undefined,
  };
}
