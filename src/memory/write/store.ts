import { v7 as uuidv7 } from "uuid";
import type { DomainOpener } from "../domains/domain-opener.ts";
import type { EmbeddingMode, TimelyEmbedder } from "../embed/inline-embedder.ts";
import type { CallContext } from "../model/call-context.ts";
import type { CallerEmbedding } from "../model/caller-embedding.ts";
import { type DomainRecord, StaleDomainError } from "../model/domain.ts";
import { DuplicateContentError, type MemoryDraft } from "../model/draft.ts";
import { ServiceError } from "../model/errors.ts";
import type { Memory, MemoryFields } from "../model/memory.ts";
import type { Repository } from "../model/repository.ts";
import { differingFields } from "./diff-memory.ts";

/** What to do if a memory of the same id is there and differs. */
export type IfExists = "fail" | "replace" | "keep";

export interface StoreCommand extends MemoryFields {
  readonly domain: string;
  /** The idempotency key; undefined: the server makes one, and a retry stores a second memory. */
  readonly id: string | undefined;
  readonly ifExists: IfExists;
  readonly embeddingMode: EmbeddingMode;
  /** That of the whole content, from a caller who embeds; undefined: the service makes it. */
  readonly embedding?: CallerEmbedding | undefined;
}

export type StoreOutcome = "created" | "replaced" | "unchanged" | "kept" | "duplicate";

export interface StoreResult {
  /** As it is stored now; of a duplicate, the one that has the content. */
  readonly memory: Memory;
  readonly outcome: StoreOutcome;
}

/** What storing does about a memory that has the id: writes the draft over it, if there is one. */
export interface ConflictResolution {
  readonly outcome: StoreOutcome;
  readonly draft: MemoryDraft | undefined;
}

export type Store = (command: StoreCommand, call: CallContext) => Promise<StoreResult>;

/** Between finding an id taken and locking its row the row may go; so few tries that a defect does not loop. */
const MAX_TRIES = 5;

/** Stores one memory, and makes its domain if that is missing. */
export function createStore(dependencies: {
  readonly repository: Repository;
  readonly domains: DomainOpener;
  readonly embeddings: TimelyEmbedder;
}): Store {
  const { repository, domains, embeddings } = dependencies;

  return async (command, call) => {
    const { content, embedding: own } = command;
    if (own !== undefined) await embeddings.assertCompatibleIn(command.domain, own, "embedding", call.signal);
    const domain = await domains.open(command.domain, call.signal);
    const attempt = await embeddings.attempt(content, own ?? command.embeddingMode, domain, call);
    call.signal.throwIfAborted();

    const id = command.id ?? `mem_${uuidv7()}`;
    const writeIn = async (current: DomainRecord) => {
      const draft = { ...command, id, ...embeddings.describe(command.content, attempt, current) };
      return await write(repository, command, draft, call.signal);
    };
    const result = await writeIn(await embeddings.fit(domain, attempt, call.signal)).catch(
      async (error: unknown) => {
        if (error instanceof StaleDomainError) {
          return await writeIn(await domains.open(command.domain, call.signal));
        }
        const gone = error instanceof ServiceError && error.reason === "DOMAIN_NOT_FOUND";
        if (!gone) throw error;
        return await writeIn(await domains.reopen(command.domain));
      },
    );

    const { memory, outcome } = result;
    if (outcome === "created" || outcome === "replaced") embeddings.follow(memory, attempt);
    return result;
  };
}

async function write(
  repository: Repository,
  command: StoreCommand,
  draft: MemoryDraft,
  signal: AbortSignal,
): Promise<StoreResult> {
  for (let tries = 1; ; tries++) {
    try {
      const created = await repository.insert(command.domain, draft, signal);
      if (created !== undefined) return { memory: created, outcome: "created" };
      return await settle(repository, command, draft, signal);
    } catch (error) {
      if (error instanceof DuplicateContentError) {
        return { memory: error.memory, outcome: "duplicate" };
      }
      const conflict = error instanceof ServiceError && error.reason === "CONFLICT";
      if (!conflict || error instanceof StaleDomainError || tries >= MAX_TRIES) throw error;
    }
  }
}

/** The id is taken: compares with what is there, under its lock, and does what the command says. */
async function settle(
  repository: Repository,
  command: StoreCommand,
  draft: MemoryDraft,
  signal: AbortSignal,
): Promise<StoreResult> {
  let settlement: ConflictResolution = { outcome: "created", draft };
  const memory = await repository.change(
    command.domain,
    draft.id,
    (current) => {
      settlement =
        current === undefined ? { outcome: "created", draft } : settlementOf(command, draft, current);
      return settlement.draft;
    },
    signal,
  );
  if (memory === undefined) throw new Error("a change that writes returned nothing");
  return { memory, outcome: settlement.outcome };
}

/**
 * What a command does about the memory that has its id.
 *
 * @throws ServiceError MEMORY_ALREADY_EXISTS
 */
export function settlementOf(command: StoreCommand, draft: MemoryDraft, current: Memory): ConflictResolution {
  const differing = differingFields(current, command);
  // A ttl counts from the moment it is stored: replacing renews it.
  const renews = command.ifExists === "replace" && command.expiry.kind === "after";
  if (differing.length === 0 && !renews) return { outcome: "unchanged", draft: undefined };
  if (command.ifExists === "keep") return { outcome: "kept", draft: undefined };
  if (command.ifExists === "fail") throw alreadyExists(command.domain, draft.id, differing);
  const sameText =
    command.embedding === undefined && !differing.includes("content") && current.embedding.state === "ready";
  return {
    outcome: "replaced",
    draft: sameText ? { ...draft, embedding: "keep", chunkCount: current.chunkCount } : draft,
  };
}

/** The error of a memory whose id is taken by one that differs. */
export function alreadyExists(domain: string, id: string, differing: readonly string[]): ServiceError {
  return new ServiceError(
    "MEMORY_ALREADY_EXISTS",
    `memory "${id}" exists in domain "${domain}" and differs in ${differing.join(", ")}`,
    { metadata: { domain, id, fields: differing.join(",") } },
  );
}
