import { create } from "@bufbuild/protobuf";
import type { HandlerContext, ServiceImpl } from "@connectrpc/connect";
import {
  type MemoryService,
  SearchResponseSchema,
  StreamSearchResponseSchema,
} from "memory-service-client/memoryservice/v1/memory_service_pb.js";
import type { CallContext } from "../memory/call-context.ts";
import type { MemoryUseCases } from "../memory/use-cases.ts";
import { noteCall } from "./call-log.ts";
import { messageFromHit, messageFromInfo, searchCommandFromRequest } from "./convert-search.ts";
import { storeCommandFromRequest, storeResponseFrom } from "./convert-store.ts";

/** The handlers of memoryservice.v1.MemoryService; methods that are missing answer Unimplemented. */
export function createMemoryService(
  { store, search }: MemoryUseCases,
  options: { readonly defaultDomain: string },
): Partial<ServiceImpl<typeof MemoryService>> {
  const { defaultDomain } = options;
  return {
    async store(request, context) {
      const command = storeCommandFromRequest(request, defaultDomain);
      noteCall(context, { domain: command.domain });
      return storeResponseFrom(await store(command, callFrom(context)));
    },

    async search(request, context) {
      const command = searchCommandFromRequest(request, "search", defaultDomain);
      noteCall(context, { domain: command.domain });
      const { hits, info } = await search.search(command, callFrom(context));
      noteCall(context, { hits: hits.length });
      return create(SearchResponseSchema, { hits: hits.map(messageFromHit), info: messageFromInfo(info) });
    },

    async *streamSearch(request, context) {
      const command = searchCommandFromRequest(request, "stream", defaultDomain);
      noteCall(context, { domain: command.domain, hits: 0 });
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

function callFrom(context: HandlerContext): CallContext {
  return { signal: context.signal, remainingMs: context.timeoutMs() };
}
