import type { EmbeddingAttempt, EmbeddingMode, TimelyEmbedder } from "../embed/inline-embedder.ts";
import type { CallContext } from "../model/call-context.ts";
import type { CallerEmbedding } from "../model/caller-embedding.ts";
import { type DomainRecord, StaleDomainError } from "../model/domain.ts";
import type { MemoryDraft } from "../model/draft.ts";
import { assertNoViolations, domainNotFound, memoryNotFound, versionMismatch } from "../model/errors.ts";
import { LIMITS } from "../model/limits.ts";
import type { JsonObject, Memory, MemoryFields } from "../model/memory.ts";
import type { Repository } from "../model/repository.ts";
import type { MemoryKey } from "../read/get.ts";

export interface UpdateCommand extends MemoryKey {
  /** The fields to change, and what they become; `importance: undefined` removes it. */
  readonly changes: Partial<MemoryFields>;
  /** merge: key by key, where null removes one; replace: all of them. */
  readonly metadataMode: "merge" | "replace";
  /** Undefined: whatever its version. */
  readonly expectedVersion: bigint | undefined;
  readonly embeddingMode: EmbeddingMode;
  /** That of the new content, from a caller who embeds; undefined: the service makes it. */
  readonly embedding?: CallerEmbedding | undefined;
}

/** @throws ServiceError MEMORY_NOT_FOUND, DOMAIN_NOT_FOUND, VERSION_MISMATCH, MEMORY_ALREADY_EXISTS, INVALID_ARGUMENT */
export type Update = (command: UpdateCommand, call: CallContext) => Promise<Memory>;

/** Changes some fields of one memory in one step, under its lock. */
export function createUpdate(dependencies: {
  readonly repository: Repository;
  readonly embeddings: TimelyEmbedder;
}): Update {
  const { repository, embeddings } = dependencies;

  /** Embeds new content before the lock; not for a change that can be seen to fail, nor for what is there already. */
  async function attemptFor(
    command: UpdateCommand,
    domain: DomainRecord,
    call: CallContext,
  ): Promise<EmbeddingAttempt> {
    const { content } = command.changes;
    if (content === undefined) return {};
    if (command.embedding !== undefined) {
      return await embeddings.attempt(content, command.embedding, domain, call);
    }
    if (command.embeddingMode === "background") return {};
    const current = await repository.read(command.domain, command.id, call.signal);
    assertExpected(command, current);
    return content === current.content
      ? {}
      : await embeddings.attempt(content, command.embeddingMode, domain, call);
  }

  async function domainOf(name: string, signal: AbortSignal): Promise<DomainRecord> {
    const domain = await repository.findDomain(name, signal);
    if (domain === undefined) throw domainNotFound(name);
    return domain;
  }

  return async (command, call) => {
    const { domain: name, id } = command;
    const attempt = await attemptFor(command, await domainOf(name, call.signal), call);
    call.signal.throwIfAborted();

    const changeIn = async (current: DomainRecord) => {
      const domain = await embeddings.fit(current, attempt, call.signal);
      return await repository.change(
        name,
        id,
        (memory) => {
          assertExpected(command, memory);
          return draftOf(command, memory, attempt, domain);
        },
        call.signal,
      );
    };
    const memory = await changeIn(await domainOf(name, call.signal)).catch(async (error: unknown) => {
      if (!(error instanceof StaleDomainError)) throw error;
      return await changeIn(await domainOf(name, call.signal));
    });
    if (memory === undefined) throw new Error("a change that writes returned nothing");
    if (command.changes.content !== undefined) embeddings.follow(memory, attempt);
    return memory;
  };

  function draftOf(
    command: UpdateCommand,
    current: Memory,
    attempt: EmbeddingAttempt,
    domain: DomainRecord,
  ): MemoryDraft {
    const { changes } = command;
    const { content, metadata } = changes;
    return {
      ...current,
      ...changes,
      ...(metadata !== undefined && command.metadataMode === "merge"
        ? { metadata: mergedMetadata(current.metadata, metadata) }
        : {}),
      keepExpiry: changes.expiry === undefined,
      ...(content === undefined || (content === current.content && command.embedding === undefined)
        ? { embedding: "keep", leaseMs: 0 }
        : embeddings.describe(content, attempt, domain)),
    };
  }
}

function assertExpected(
  { domain, id, expectedVersion }: UpdateCommand,
  current: Memory | undefined,
): asserts current is Memory {
  if (current === undefined) throw memoryNotFound(domain, id);
  if (expectedVersion !== undefined && expectedVersion !== current.version) {
    throw versionMismatch({ domain, id }, expectedVersion, current.version);
  }
}

/** Two that keep the bound may break it together; what was beyond it before may still shrink. */
function mergedMetadata(current: JsonObject, sent: JsonObject): JsonObject {
  const merged = Object.fromEntries(
    Object.entries({ ...current, ...sent }).filter(
      ([key, value]) => value !== null || !Object.hasOwn(sent, key),
    ),
  );
  const bytes = Buffer.byteLength(JSON.stringify(merged));
  if (bytes > LIMITS.metadataBytes && bytes > Buffer.byteLength(JSON.stringify(current))) {
    assertNoViolations([
      {
        field: "memory.metadata",
        description: `must have at most ${LIMITS.metadataBytes} bytes of UTF-8 when merged, would have ${bytes}`,
      },
    ]);
  }
  return merged;
}
