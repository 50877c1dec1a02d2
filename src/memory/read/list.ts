import type { CallContext } from "../model/call-context.ts";
import { domainNotFound, ServiceError } from "../model/errors.ts";
import type { Filter } from "../model/filter.ts";
import { MAX_RESPONSE_BYTES } from "../model/limits.ts";
import type { ListedMemory } from "../model/memory-store.ts";
import type { Repository } from "../model/repository.ts";
import { memoryBytes } from "./message-size.ts";
import type { PagePosition, PageTokens } from "./page-token.ts";

/** By which time memories are listed, and from which end. */
export interface ListOrder {
  readonly by: "create_time" | "update_time";
  readonly descending: boolean;
}

export interface ListCommand {
  readonly domain: string;
  /** Undefined: all memories. */
  readonly filter: Filter | undefined;
  readonly order: ListOrder;
  readonly pageSize: number;
  /** "": the first page. */
  readonly pageToken: string;
  /** Whether to read contents, or their beginnings only. */
  readonly content: boolean;
}

export interface MemoryPage {
  readonly memories: readonly ListedMemory[];
  /** "": this was the last page. */
  readonly nextPageToken: string;
}

/** @throws ServiceError DOMAIN_NOT_FOUND, INVALID_PAGE_TOKEN, RESPONSE_TOO_LARGE */
export type List = (command: ListCommand, call: CallContext) => Promise<MemoryPage>;

/** Lists the memories of a domain by keyset: a page begins after the last memory of the one before, wherever that is. */
export function createList(dependencies: {
  readonly repository: Repository;
  readonly tokens: PageTokens;
}): List {
  const { repository, tokens } = dependencies;
  return async (command, { signal }) => {
    const { filter, order } = command;
    // As it is now: a token of a domain that was dropped must not lead into one of the same name.
    const domain = await repository.readDomain(command.domain, signal);
    if (domain === undefined) throw domainNotFound(command.domain);
    const query = ["List", domain.id, order.by, order.descending, filter ?? null];
    const after = command.pageToken === "" ? undefined : keyFrom(await tokens.open(query, command.pageToken));

    const found = await repository.list(
      domain.name,
      // One more than asked for tells whether there is a next page.
      { filter, order, after, limit: command.pageSize + 1, content: command.content },
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

/** How many from the first on fit into an answer. */
function countFitting(listed: readonly ListedMemory[]): number {
  let bytes = 0;
  const tooMany = listed.findIndex(({ memory, preview }) => {
    bytes += memoryBytes(memory, preview);
    return bytes > MAX_RESPONSE_BYTES;
  });
  return tooMany < 0 ? listed.length : tooMany;
}

function keyFrom([time, id]: PagePosition) {
  if (time === undefined || id === undefined) throw new Error("a page token without its position");
  return { time: BigInt(time), id };
}

function tooLarge(): ServiceError {
  return new ServiceError(
    "RESPONSE_TOO_LARGE",
    "the next memory does not fit into one message: set view to VIEW_SNIPPET",
    {
      metadata: { field: "view" },
    },
  );
}
