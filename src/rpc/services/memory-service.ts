import { create } from "@bufbuild/protobuf";
import type { HandlerContext, ServiceImpl } from "@connectrpc/connect";
import {
  DeleteMatchingResponseSchema,
  DeleteResponseSchema,
  ExportResponseSchema,
  GetResponseSchema,
  type MemoryService,
  RetryFailedResponseSchema,
  SearchResponseSchema,
  StreamSearchResponseSchema,
  UpdateResponseSchema,
} from "memory-service-client/memoryservice/v1/memory_service_pb.js";
import type { CallContext } from "../../memory/model/call-context.ts";
import type { SearchCommand } from "../../memory/search/search-command.ts";
import type { MemoryUseCases } from "../../memory/use-cases.ts";
import { importFacts } from "../audit-facts.ts";
import { noteCall } from "../call-log.ts";
import { callerOf } from "../caller.ts";
import { noteDone } from "../interceptors/audit.ts";
import { type Denial, denialIn } from "../interceptors/authorize.ts";
import { batchCommandFromRequest, batchResponseFrom } from "../messages/batch-store.ts";
import { deleteMatchingCommandFromRequest } from "../messages/delete-matching.ts";
import { exportCommandFromRequest, exportHeaderFrom, exportRecordFrom } from "../messages/export.ts";
import { deleteCommandFromRequest, keyFromRequest } from "../messages/fields/key.ts";
import { messageFromMemory } from "../messages/fields/memory.ts";
import { importCommandFromRequests, importResponseFrom } from "../messages/import.ts";
import { listCommandFromRequest, listResponseFrom } from "../messages/list.ts";
import { retryFailedCommandFromRequest } from "../messages/retry-failed.ts";
import { messageFromHit, messageFromInfo, searchCommandFromRequest } from "../messages/search.ts";
import { storeCommandFromRequest, storeResponseFrom } from "../messages/store.ts";
import { updateCommandFromRequest } from "../messages/update.ts";

/** The handlers of memoryservice.v1.MemoryService. */
export function createMemoryService(
  memories: MemoryUseCases,
  options: { readonly defaultDomain: string },
): ServiceImpl<typeof MemoryService> {
  const { defaultDomain } = options;
  const { search } = memories;
  const writeDenial = (context: HandlerContext): Denial => denialIn(context, "write", defaultDomain);
  return {
    async store(request, context) {
      const command = storeCommandFromRequest(request, defaultDomain);
      return storeResponseFrom(await memories.store(command, callFrom(context)));
    },

    async batchStore(request, context) {
      const command = batchCommandFromRequest(request, defaultDomain, writeDenial(context));
      return batchResponseFrom(await memories.batchStore(command, callFrom(context)));
    },

    async get(request, context) {
      const key = keyFromRequest(request, defaultDomain);
      const memory = await memories.get(key, callFrom(context));
      return create(GetResponseSchema, { memory: messageFromMemory(memory) });
    },

    async list(request, context) {
      const command = listCommandFromRequest(request, defaultDomain);
      return listResponseFrom(await memories.list(command, callFrom(context)));
    },

    async update(request, context) {
      const command = updateCommandFromRequest(request, defaultDomain);
      const memory = await memories.update(command, callFrom(context));
      return create(UpdateResponseSchema, { memory: messageFromMemory(memory) });
    },

    async delete(request, context) {
      const command = deleteCommandFromRequest(request, defaultDomain);
      const deleted = await memories.delete(command, callFrom(context));
      return create(DeleteResponseSchema, { deleted });
    },

    async deleteMatching(request, context) {
      const command = deleteMatchingCommandFromRequest(request, defaultDomain);
      const counts = await memories.deleteMatching(command, callFrom(context), (deleted) =>
        noteDone(context, { deleted: Number(deleted) }),
      );
      return create(DeleteMatchingResponseSchema, counts);
    },

    async retryFailed(request, context) {
      const command = retryFailedCommandFromRequest(request, defaultDomain);
      const retried = await memories.retryFailed(command, callFrom(context), (soFar) =>
        noteDone(context, { retried: Number(soFar) }),
      );
      return create(RetryFailedResponseSchema, { retried });
    },

    async *export(request, context) {
      const command = exportCommandFromRequest(request, defaultDomain);
      noteCall(context, { records: 0 });
      const running = await memories.export(command, callFrom(context));
      yield exportHeaderFrom(running);
      let records = 0;
      for await (const record of running.records) {
        noteCall(context, { records: ++records });
        yield exportRecordFrom(record);
      }
      yield create(ExportResponseSchema, {
        item: { case: "summary", value: { records: BigInt(records) } },
      });
    },

    async import(requests, context) {
      const command = await importCommandFromRequests(requests, defaultDomain, writeDenial(context));
      if (command.domain !== "") noteCall(context, { domain: command.domain });
      const report = await memories.import(command, callFrom(context), (soFar) =>
        noteDone(context, importFacts(soFar)),
      );
      const response = importResponseFrom(report);
      noteCall(context, { records: Number(response.received), rejected: Number(response.rejected) });
      return response;
    },

    async search(request, context) {
      const command = { ...searchCommandFromRequest(request, "search", defaultDomain), ...mayRead(context) };
      const { hits, info } = await search.search(command, callFrom(context));
      noteCall(context, { hits: hits.length });
      return create(SearchResponseSchema, { hits: hits.map(messageFromHit), info: messageFromInfo(info) });
    },

    async *streamSearch(request, context) {
      const command = { ...searchCommandFromRequest(request, "stream", defaultDomain), ...mayRead(context) };
      noteCall(context, { hits: 0 });
      const { info, hits, progress } = await search.stream(command, callFrom(context));
      yield create(StreamSearchResponseSchema, { item: { case: "info", value: messageFromInfo(info) } });
      for await (const hit of hits) {
        noteCall(context, { hits: progress.sent });
        yield create(StreamSearchResponseSchema, { item: { case: "hit", value: messageFromHit(hit) } });
      }
      const { sent, skipped } = progress;
      yield create(StreamSearchResponseSchema, { item: { case: "summary", value: { sent, skipped } } });
    },
  };
}

function mayRead(context: HandlerContext): Pick<SearchCommand, "mayRead"> {
  const caller = callerOf(context);
  return { mayRead: (domain) => caller.may("read", domain) };
}

function callFrom(context: HandlerContext): CallContext {
  return { signal: context.signal, remainingMs: context.timeoutMs() };
}
