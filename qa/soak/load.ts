import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcTransport, Http2SessionManager } from "@connectrpc/connect-node";
import {
  IfExists,
  MemoryService,
  SearchMode,
} from "memory-service-client/memoryservice/v1/memory_service_pb.js";
import { createRandom } from "../../test/support/random.ts";

/** Running callers and their counts. */
export interface Load {
  /** Number of answered calls, including NotFound for what another caller has just deleted. */
  calls(): number;
  /** Number of other failures by message. */
  readonly failures: ReadonlyMap<string, number>;
  /** Resolves when the last call has ended. */
  stop(): Promise<void>;
}

/** Number of distinct ids: the data stops growing once each is stored. */
const slots = 2_000;

const words =
  "harbour engine letter winter garden copper signal river market window captain forest ledger orchid tunnel violin".split(
    " ",
  );

/** Starts callers that store, read, change, search, stream, list and delete, each with one call at a time. */
export function startLoad(url: string, callers: number, seed: number): Load {
  const failures = new Map<string, number>();
  const controller = new AbortController();
  let calls = 0;

  async function run(caller: number): Promise<void> {
    const sessionManager = new Http2SessionManager(url);
    const client = createClient(MemoryService, createGrpcTransport({ baseUrl: url, sessionManager }));
    const { between } = createRandom(seed + caller);
    const text = (length: number) =>
      Array.from({ length }, () => words[between(0, words.length - 1)]).join(" ");

    const call = async () => {
      const id = `slot-${between(1, slots)}`;
      const kind = between(1, 100);
      if (kind <= 25) {
        // One content in twenty is long enough for several chunks.
        const content = text(kind === 1 ? 2_000 : between(5, 60));
        await client.store({ id, content, tags: [text(1)], ifExists: IfExists.REPLACE });
      } else if (kind <= 30) {
        const items = Array.from({ length: 10 }, (_, n) => ({
          id: `slot-${between(n * 200 + 1, n * 200 + 200)}`,
          content: text(20),
          ifExists: IfExists.REPLACE,
        }));
        await client.batchStore({ items });
      } else if (kind <= 45) {
        await client.update({ memory: { id, source: text(1) }, updateMask: { paths: ["source"] } });
      } else if (kind <= 70) {
        const mode = [SearchMode.HYBRID, SearchMode.TEXT, SearchMode.SEMANTIC][between(0, 2)];
        await client.search({ query: text(4), limit: 10, ...(mode === undefined ? {} : { mode }) });
      } else if (kind <= 74) {
        for await (const _ of client.streamSearch({ query: text(3), limit: 200 }));
      } else if (kind <= 84) {
        await client.get({ id });
      } else if (kind <= 88) {
        await client.list({ pageSize: 50 });
      } else if (kind <= 99) {
        await client.delete({ id, allowMissing: true });
      } else {
        const filter = { condition: { case: "tagsAny" as const, value: { values: [text(1)] } } };
        await client.deleteMatching({ filter, dryRun: between(1, 10) > 1 });
      }
    };

    while (!controller.signal.aborted) {
      try {
        await call();
      } catch (error) {
        const { code, message } = ConnectError.from(error);
        if (code !== Code.NotFound) failures.set(message, (failures.get(message) ?? 0) + 1);
      }
      calls++;
    }
    sessionManager.abort();
  }

  const running = Promise.all(Array.from({ length: callers }, (_, caller) => run(caller)));
  return {
    calls: () => calls,
    failures,
    async stop() {
      controller.abort();
      await running;
    },
  };
}
