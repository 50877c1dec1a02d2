import { create } from "@bufbuild/protobuf";
import type { HandlerContext, ServiceImpl } from "@connectrpc/connect";
import {
  CreateDomainResponseSchema,
  DeleteDomainResponseSchema,
  type DomainService,
  GetDomainResponseSchema,
  ListDomainsResponseSchema,
  UpdateDomainResponseSchema,
} from "memory-service-client/memoryservice/v1/domain_service_pb.js";
import type { DomainUseCases } from "../../memory/domains/domains.ts";
import { DEFAULT_DOMAIN_SETTINGS } from "../../memory/model/domain.ts";
import { callerOf } from "../caller.ts";
import { noteDone } from "../interceptors/audit.ts";
import {
  createCommandFromRequest,
  deletedNameFromRequest,
  domainFromRequest,
  messageFromDomain,
  pageFromRequest,
  updateCommandFromRequest,
} from "../messages/domain.ts";

/** The handlers of memoryservice.v1.DomainService. */
export function createDomainService(
  domains: DomainUseCases,
  { defaultDomain }: { readonly defaultDomain: string },
): ServiceImpl<typeof DomainService> {
  const noteChanged = (context: HandlerContext) => () => noteDone(context, { changed: true });
  return {
    async createDomain(request, context) {
      const command = createCommandFromRequest(request);
      const { report, created } = await domains.create(command, context.signal, noteChanged(context));
      return create(CreateDomainResponseSchema, { domain: messageFromDomain(report), created });
    },

    async getDomain(request, context) {
      const name = domainFromRequest(request, defaultDomain);
      return create(GetDomainResponseSchema, {
        domain: messageFromDomain(await domains.get(name, context.signal)),
      });
    },

    async listDomains(request, context) {
      const caller = callerOf(context);
      const page = { ...pageFromRequest(request), mayRead: (name: string) => caller.may("read", name) };
      const { reports, nextPageToken } = await domains.list(page, context.signal);
      return create(ListDomainsResponseSchema, { domains: reports.map(messageFromDomain), nextPageToken });
    },

    async updateDomain(request, context) {
      const { textSearchConfig } = DEFAULT_DOMAIN_SETTINGS;
      const command = updateCommandFromRequest(request, defaultDomain, textSearchConfig);
      const report = await domains.update(command, context.signal, noteChanged(context));
      return create(UpdateDomainResponseSchema, { domain: messageFromDomain(report) });
    },

    async deleteDomain(request, context) {
      const name = deletedNameFromRequest(request);
      const deletedMemories = await domains.delete(name, (memories) =>
        noteDone(context, { changed: true, deleted: Number(memories) }),
      );
      return create(DeleteDomainResponseSchema, { deletedMemories });
    },
  };
}
