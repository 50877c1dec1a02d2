import { v7 as uuidv7 } from "uuid";
import { EmbedError } from "../embedding/embedder.ts";
import { ServiceError } from "../errors.ts";
import type { Logger } from "../logger.ts";
import type {
  ContentEmbedding,
  DomainRecord,
  MemoryDraft,
  MemoryRepository,
} from "../storage/memory-repository.ts";
import { type ContentEmbedder, embedBudget, within } from "./content-embedder.ts";
import type { Memory, MemoryFields } from "./memory.ts";
import { differingFields } from "./same-memory.ts";

/** What to do if a memory of the same id is there and differs. */
export type IfExists = "fail" | "replace" | "keep";

export interface StoreCommand extends MemoryFields {
  readonly domain: string;
  /** The idempotency key; undefined: the server makes one, and a retry stores a second memory. */
  readonly id: string | undefined;
  readonly ifExists: IfExists;
  /** inline: wait for the embedding within the budget; background: store as pending at once. */
  readonly embeddingMode: "inline" | "background";
}

export type StoreOutcome = "created" | "replaced" | "unchanged" | "kept";

/** What a use case knows of the call it serves. */
export interface CallContext {
  readonly signal: AbortSignal;
  /** Milliseconds left until the caller's deadline; undefined: none. */
  readonly remainingMs: number | undefined;
}

export type Store = (
  command: StoreCommand,
  call: CallContext,
) => Promise<{ readonly memory: Memory; readonly outcome: StoreOutcome }>;

/** How long the writer of a pending memory keeps it to itself while its embedding is on the way. */
const LATE_EMBEDDING_LEASE_MS = 60_000;

/** Between finding an id taken and locking its row the row may go; so few tries that a defect does not loop. */
const MAX_TRIES = 5;

/**
 * Stores one memory. The embedder is never on the way of durability: after its budget the text is committed as
 * pending, while the embedding goes on and is written when it comes.
 */
export function createStore(dependencies: {
  readonly repository: MemoryRepository;
  readonly contents: ContentEmbedder;
  readonly embedBudgetMs: number;
  readonly createDomains: boolean;
  /** Told of a domain that has a new pending memory nobody is embedding. */
  readonly onPending: (domain: string) => void;
  readonly logger: Logger;
}): Store {
  const { repository, contents, logger } = dependencies;
  const domainsUnderWay = new Map<string, Promise<DomainRecord>>();

  async function openDomain(name: string, signal: AbortSignal): Promise<DomainRecord> {
    const known = await repository.findDomain(name, signal);
    if (known !== undefined) return known;
    if (!dependencies.createDomains) {
      throw new ServiceError(
        "DOMAIN_NOT_FOUND",
        `domain "${name}" not found, and Store may not create it: call DomainService.CreateDomain`,
        {
          metadata: { domain: name },
        },
      );
    }
    return await makeDomain(name);
  }

  /** Once for all that wait for the same domain: each would hold a connection, and others need some. */
  async function makeDomain(name: string): Promise<DomainRecord> {
    const underWay = domainsUnderWay.get(name);
    if (underWay !== undefined) return await underWay;
    const made = makeDomainAlone(name).finally(() => domainsUnderWay.delete(name));
    domainsUnderWay.set(name, made);
    return await made;
  }

  async function makeDomainAlone(name: string): Promise<DomainRecord> {
    const dimensions = (await contents.current())?.dimensions;
    const created = await repository.createDomain(name, dimensions);
    return created.embeddingVersion === undefined ? await contents.align(created) : created;
  }

  /** Embeds within the budget; what takes longer is left running, for `finishLater`. */
  async function embedInTime(content: string, call: CallContext) {
    const running = contents.embedContent(content);
    running.catch(() => {});
    try {
      const done = await within(running, embedBudget(dependencies.embedBudgetMs, call.remainingMs));
      return done === undefined ? { running } : { done };
    } catch (error) {
      if (!(error instanceof EmbedError)) throw error;
      return {};
    }
  }

  async function finishLater(memory: Memory, running: Promise<ContentEmbedding>) {
    try {
      const embedding = await running;
      const contentHash = await sha256(memory.content);
      await repository.completeEmbedding(memory.domain, { id: memory.id, contentHash }, embedding);
    } catch (error) {
      logger.debug({ err: error, domain: memory.domain, id: memory.id }, "late embedding was lost");
      await repository.releaseEmbedding(memory.domain, memory.id).catch(() => {});
      dependencies.onPending(memory.domain);
    }
  }

  return async (command, call) => {
    const domain = await openDomain(command.domain, call.signal);
    const { done, running } =
      command.embeddingMode === "inline"
        ? await embedInTime(command.content, call)
        : { done: undefined, running: undefined };
    call.signal.throwIfAborted();

    const id = command.id ?? `mem_${uuidv7()}`;
    const writeIn = async (current: DomainRecord) => {
      const draft: MemoryDraft = {
        ...command,
        id,
        chunkCount: done?.chunks.length ?? contents.countChunks(command.content),
        // Vectors of a version the domain does not search in would never be found: its own server embeds it.
        embedding: done?.version === current.embeddingVersion ? done : undefined,
        leaseMs: running === undefined ? 0 : LATE_EMBEDDING_LEASE_MS,
      };
      return await write(repository, command, draft, call.signal);
    };
    const result = await writeIn(domain).catch(async (error: unknown) => {
      const gone = error instanceof ServiceError && error.reason === "DOMAIN_NOT_FOUND";
      if (!gone || !dependencies.createDomains) throw error;
      // Dropped behind this server's back: missing like any other.
      return await writeIn(await makeDomain(command.domain));
    });

    const { memory, outcome } = result;
    if (memory.embedding.state === "pending" && (outcome === "created" || outcome === "replaced")) {
      if (running === undefined) dependencies.onPending(memory.domain);
      else void finishLater(memory, running);
    }
    return result;
  };
}

async function write(
  repository: MemoryRepository,
  command: StoreCommand,
  draft: MemoryDraft,
  signal: AbortSignal,
) {
  for (let tries = 1; ; tries++) {
    try {
      const created = await repository.insert(command.domain, draft, signal);
      if (created !== undefined) return { memory: created, outcome: "created" as const };
      return await settle(repository, command, draft, signal);
    } catch (error) {
      const conflict = error instanceof ServiceError && error.reason === "CONFLICT";
      if (!conflict || tries >= MAX_TRIES) throw error;
    }
  }
}

/** The id is taken: compares with what is there, under its lock, and does what the command says. */
async function settle(
  repository: MemoryRepository,
  command: StoreCommand,
  draft: MemoryDraft,
  signal: AbortSignal,
) {
  let outcome: StoreOutcome = "created";
  const memory = await repository.change(
    command.domain,
    draft.id,
    (current) => {
      if (current === undefined) return draft;
      const differing = differingFields(current, command);
      // A ttl counts from the moment it is stored: replacing renews it.
      const renews = command.ifExists === "replace" && command.expiry.kind === "after";
      if (differing.length === 0 && !renews) {
        outcome = "unchanged";
        return undefined;
      }
      if (command.ifExists === "keep") {
        outcome = "kept";
        return undefined;
      }
      if (command.ifExists === "fail") throw alreadyExists(command.domain, draft.id, differing);
      outcome = "replaced";
      const sameText = !differing.includes("content") && current.embedding.state === "ready";
      return sameText ? { ...draft, embedding: "keep", chunkCount: current.chunkCount } : draft;
    },
    signal,
  );
  if (memory === undefined) throw new Error("a change that writes returned nothing");
  return { memory, outcome };
}

function alreadyExists(domain: string, id: string, differing: readonly string[]): ServiceError {
  return new ServiceError(
    "MEMORY_ALREADY_EXISTS",
    `memory "${id}" exists in domain "${domain}" and differs in ${differing.join(", ")}`,
    { metadata: { domain, id, fields: differing.join(",") } },
  );
}

async function sha256(text: string): Promise<Uint8Array> {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text)));
}
