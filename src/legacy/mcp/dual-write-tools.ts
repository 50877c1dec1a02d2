import type { MemoryTools } from "../../mcp/memory-operations.ts";
import type { StoreWithId } from "../../mcp/service-tools.ts";
import type { Logger } from "../../util/logger.ts";

/**
 * Creates tools that write to both the old server and this service, and read from one of them.
 *
 * A memory has the same id on both sides: the one that the old server assigns. If a write fails only on the side that
 * is not read from, the call succeeds and the log names what that side lacks. The next incremental import brings the
 * service up to date.
 */
export function createDualWriteTools(dependencies: {
  readonly old: MemoryTools;
  readonly service: MemoryTools & StoreWithId;
  readonly readFrom: "old" | "new";
  readonly logger: Logger;
}): MemoryTools {
  const { old, service, readFrom, logger } = dependencies;
  const readSide = readFrom === "old" ? old : service;

  /** Runs a write on one side; returns undefined if it fails on the side that is not read from. */
  async function attempt<T>(
    side: "old" | "new",
    tool: string,
    write: () => Promise<T>,
  ): Promise<T | undefined> {
    try {
      return await write();
    } catch (error) {
      if (side === readFrom) throw error;
      logger.warn({ err: error, side }, `${tool} failed on the side that is not read from`);
      return undefined;
    }
  }

  return {
    async store(memory) {
      const oldId = await attempt("old", "store_memory", () => old.store(memory));
      const newId = await attempt("new", "store_memory", () => service.storeWithId(memory, oldId));
      const id = oldId ?? newId;
      if (id === undefined) throw new Error("neither server stored the memory");
      return id;
    },

    async update(change) {
      const oldFound = await attempt("old", "update_memory", () => old.update(change));
      const newFound = await attempt("new", "update_memory", () => service.update(change));
      if (oldFound !== undefined && newFound !== undefined && oldFound !== newFound) {
        logger.warn(
          { id: change.memoryId, old: oldFound, new: newFound },
          "update_memory found the memory on one side only",
        );
      }
      return (readFrom === "old" ? oldFound : newFound) ?? false;
    },

    search: (query) => readSide.search(query),
    listDomains: () => readSide.listDomains(),
  };
}
