import type { CallContext } from "../model/call-context.ts";
import type { DomainStore } from "../model/domain-store.ts";
import { domainNotFound, ServiceError } from "../model/errors.ts";
import type { Filter } from "../model/filter.ts";
import { LIMITS, MAX_RESPONSE_BYTES, PREVIEW_LENGTH } from "../model/limits.ts";
import type { ListedMemory, MemoryStore } from "../model/memory-store.ts";
import { memoryBytes } from "./message-size.ts";
import type { PagePosition, PageTokens } from "./page-token.ts";

/** By which time memories are listed, and from which end. */
export interface ListOrder {
  readonly by: "create_time" | "update_time";
  readonly descending: boolean;
}

export interface ListCommand {
  readonly domain: string;
  /** Undefined for all memories. */
  readonly filter: Filter | undefined;
  readonly order: ListOrder;
  readonly pageSize: number;
  /** "" for the first page. */
  readonly pageToken: string;
  /** Whether to read contents, or only their beginnings. */
  readonly content: boolean;
}

export interface MemoryPage {
  readonly memories: readonly ListedMemory[];
  /** "" after the last page. */
  readonly nextPageToken: string;
}

/** @throws ServiceError DOMAIN_NOT_FOUND, INVALID_PAGE_TOKEN, RESPONSE_TOO_LARGE */
export type List = (command: ListCommand, call: CallContext) => Promise<MemoryPage>;

/**
 * Creates List, which pages by keyset: a page starts after the last memory of the previous page, even if that moved.
 */
export function createList(dependencies: {
  readonly repository: DomainStore & MemoryStore;
  readonly tokens: PageTokens;
}): List {
  const { repository, tokens } = dependencies;
  return async (command, { signal }) => {
    const { filter, order } = command;
    // The current domain: a page token of a deleted domain must not work in a recreated one.
    const domain = await repository.readDomain(command.domain, signal);
    if (domain === undefined) throw domainNotFound(command.domain);
    const query = ["List", domain.id, order.by, order.descending, filter ?? null];
    const after = command.pageToken === "" ? undefined : keyFrom(await tokens.open(query, command.pageToken));

    const found = await repository.list(
      domain.name,
      {
        filter,
        order,
        after,
        // One more than requested, which shows whether there is another page.
        limit: command.pageSize + 1,
        content: command.content,
        maxBytes: LIMITS.messageBytes,
        previewLength: PREVIEW_LENGTH,
      },
      signal,
    );
    const memories = found.slice(0, Math.min(command.pageSize, countFitting(found)));
    const last = memories.at(-1)?.memory;
    if (last === undefined) {
      if (found.length > 0) throw tooLarge();
      return { memories, nextPageToken: "" };
    }
    const complete = memories.length === found.length && !found.at(-1)?.more;
    const time = order.by === "create_time" ? last.createTime : last.updateTime;
    return { memories, nextPageToken: complete ? "" : await tokens.seal(query, [String(time), last.id]) };
  };
}

/** Returns how many of the first memories fit into a response. */
function countFitting(listed: readonly ListedMemory[]): number {
  let bytes = 0;
  const overflow = listed.findIndex(({ memory, preview }) => {
    bytes += memoryBytes(memory, preview);
    return bytes > MAX_RESPONSE_BYTES;
  });
  return overflow < 0 ? listed.length : overflow;
}

function keyFrom([time, id]: PagePosition) {
  if (time === undefined || id === undefined) throw new Error("a page token without its position");
  return { time: BigInt(time), id };
}

function tooLarge(): ServiceError {
  return new ServiceError(
    "RESPONSE_TOO_LARGE",
    "the next memory is larger than a message may be; set view to VIEW_SNIPPET",
    {
      metadata: { field: "view" },
    },
  );
}
