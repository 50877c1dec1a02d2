import type { MemoryTools } from "../../mcp/memory-tools.ts";
import type { StoreWithId } from "../../mcp/service-tools.ts";
import type { Logger } from "../../util/logger.ts";

/**
 * Writes to the old server and to this service, and reads from one of them. A memory has one id on both sides, that of the
 * old one. Where only the side that is not read from fails, the call succeeds and the log says what is missing there: the
 * next incremental import brings the service up to date.
 */
export function createDualWriteTools(dependencies: {
  readonly old: MemoryTools;
  readonly service: MemoryTools & StoreWithId;
  readonly readFrom: "old" | "new";
  readonly logger: Logger;
}): MemoryTools {
  const { old, service, readFrom, logger } = dependencies;
  const reads = readFrom === "old" ? old : service;

  /** Undefined if it failed, and may. */
  async function attempt<T>(
    side: "old" | "new",
    what: string,
    work: () => Promise<T>,
  ): Promise<T | undefined> {
    try {
      return await work();
    } catch (error) {
      if (side === readFrom) throw error;
      logger.warn({ err: error, side }, `${what} failed on the side that is not read from`);
      return undefined;
    }
  }

  return {
    async store(memory) {
      const id = await attempt("old", "store_memory", () => old.store(memory));
      const stored = await attempt("new", "store_memory", () => service.storeWithId(memory, id));
      const answer = id ?? stored;
      if (answer === undefined) throw new Error("neither side has stored the memory");
      return answer;
    },

    async update(change) {
      const first = await attempt("old", "update_memory", () => old.update(change));
      const second = await attempt("new", "update_memory", () => service.update(change));
      if (first !== undefined && second !== undefined && first !== second) {
        logger.warn(
          { id: change.memoryId, old: first, new: second },
          "update_memory found the memory on one side only",
        );
      }
      return (readFrom === "old" ? first : second) ?? false;
    },

    search: (query) => reads.search(query),
    listDomains: () => reads.listDomains(),
  };
}
