import type { DomainResolver } from "../domains/domain-resolver.ts";
import type { EmbeddingAttempt, EmbeddingMode, InlineEmbedder } from "../embed/inline-embedder.ts";
import type { CallContext } from "../model/call-context.ts";
import type { CallerEmbedding } from "../model/caller-embedding.ts";
import type { DomainRecord } from "../model/domain.ts";
import type { MemoryDraft } from "../model/draft.ts";
import { assertNoViolations, memoryNotFound, versionMismatch } from "../model/errors.ts";
import { LIMITS } from "../model/limits.ts";
import type { JsonObject, Memory, MemoryFields } from "../model/memory.ts";
import type { MemoryStore } from "../model/memory-store.ts";
import type { MemoryKey } from "../read/get.ts";

export interface UpdateCommand extends MemoryKey {
  /** The fields to change and their new values. `importance: undefined` removes the importance. */
  readonly changes: Partial<MemoryFields>;
  /** merge: changes key by key, and null removes a key; replace: replaces the whole metadata. */
  readonly metadataMode: "merge" | "replace";
  /** Undefined updates any version. */
  readonly expectedVersion: bigint | undefined;
  readonly embeddingMode: EmbeddingMode;
  /** Caller-supplied embedding of the new content; undefined if the service computes it. */
  readonly embedding?: CallerEmbedding | undefined;
}

/**
 * @throws ServiceError MEMORY_NOT_FOUND, DOMAIN_NOT_FOUND, VERSION_MISMATCH, MEMORY_ALREADY_EXISTS, INVALID_ARGUMENT
 */
export type Update = (command: UpdateCommand, call: CallContext) => Promise<Memory>;

/** Creates Update, which changes fields of one memory under its lock. */
export function createUpdate(dependencies: {
  readonly repository: MemoryStore;
  readonly domains: DomainResolver;
  readonly embeddings: InlineEmbedder;
}): Update {
  const { repository, domains, embeddings } = dependencies;

  /** Embeds new content before the memory is locked, unless the update would fail or the content stays the same. */
  async function embed(
    command: UpdateCommand,
    domain: DomainRecord,
    call: CallContext,
  ): Promise<EmbeddingAttempt> {
    const { content } = command.changes;
    if (content === undefined) return {};
    if (command.embedding !== undefined) {
      return await embeddings.start(content, command.embedding, domain, call);
    }
    if (command.embeddingMode === "background") return {};
    const current = await repository.read(command.domain, command.id, call.signal);
    assertExpected(command, current);
    return content === current.content
      ? {}
      : await embeddings.start(content, command.embeddingMode, domain, call);
  }

  return async (command, call) => {
    const { domain: name, id } = command;
    let attempt: EmbeddingAttempt | undefined;
    const memory = await domains.withDomain(
      name,
      async (found) => {
        const embedded = attempt ?? (await embed(command, found, call));
        attempt = embedded;
        call.signal.throwIfAborted();
        const domain = await embeddings.refreshDomain(found, embedded.done?.version, call.signal);
        return await repository.change(
          name,
          id,
          (current) => {
            assertExpected(command, current);
            return draftOf(command, current, embedded, domain);
          },
          call.signal,
        );
      },
      call.signal,
    );
    if (memory === undefined) throw new Error("a change that writes returned nothing");
    if (command.changes.content !== undefined) embeddings.completeLater(memory, attempt ?? {});
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
        ? { metadata: mergeMetadata(current.metadata, metadata) }
        : {}),
      keepExpiry: changes.expiry === undefined,
      ...(content === undefined || (content === current.content && command.embedding === undefined)
        ? { embedding: "keep", leaseMs: 0 }
        : embeddings.toDraft(content, attempt, domain)),
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

/**
 * Merges metadata. The result may exceed the limit although both parts obey it; metadata already over it may shrink.
 */
function mergeMetadata(current: JsonObject, sent: JsonObject): JsonObject {
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
