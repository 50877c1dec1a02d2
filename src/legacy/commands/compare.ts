import type { MemoryClient } from "memory-service-client";
import { SearchMode } from "memory-service-client/memoryservice/v1/memory_service_pb.js";
import { readConfig, type SettingValues } from "../../app/config.ts";
import { openLocalClient } from "../../app/open-local-client.ts";
import { abortOnSignal } from "../../cli/abort-on-signal.ts";
import { wholeNumberFrom } from "../../cli/client/parse-options.ts";
import { openServerClient, serverUrl, toCliError } from "../../cli/client/server-client.ts";
import { formatCount } from "../../cli/output/format-count.ts";
import { warningLogger } from "../../cli/output/log.ts";
import { createServiceTools } from "../../mcp/service-tools.ts";
import { messageOf } from "../../util/error-message.ts";
import { StartupError } from "../../util/startup-error.ts";
import {
  type AnswerComparison,
  type ComparisonSummary,
  compareAnswers,
  summarizeComparisons,
} from "../compare/compare-answers.ts";
import { type CompareQuery, readQueries, sampleQueries } from "../compare/compare-queries.ts";
import { searchLegacy } from "../compare/search-legacy.ts";
import { openLegacySource } from "../readers/open-legacy-source.ts";
import { runningServer } from "./open-target-domain.ts";
import { createUnprefixedEmbedder } from "./unprefixed-embedder.ts";

export interface CompareOptions {
  readonly server?: string;
  readonly domain?: string;
  readonly queries?: string;
  readonly sample?: string;
  readonly limit?: string;
  readonly mode?: "hybrid" | "semantic";
  readonly json?: boolean;
}

/**
 * Runs the same queries on the old data and on the service, and prints how well the results agree. Returns the exit
 * code: 1 if the top memory of a clear old result is not the new top memory.
 *
 * @throws StartupError, UsageError
 */
export async function compare(path: string, options: CompareOptions): Promise<number> {
  const { settings, ...config } = readConfig(process.env);
  const limit = wholeNumberFrom("--limit", options.limit ?? "5");
  const count = wholeNumberFrom("--sample", options.sample ?? "50");
  const { signal, stop } = abortOnSignal();
  const url = options.server === undefined ? await runningServer() : await serverUrl(options.server);
  const source = await openLegacySource(path, signal).finally(stop);
  try {
    const { dimensions, problem } = source.vectors.findings;
    const queries =
      options.queries === undefined
        ? sampleQueries(source, { count, limit })
        : await readQueries(options.queries, { limit, dimensions });
    const queriesWithEmbeddings =
      dimensions > 0 && problem === undefined ? await embedMissing(settings, queries, signal) : queries;
    const legacyResults = await searchLegacy(source, queriesWithEmbeddings, signal);
    const service =
      url === undefined
        ? await openLocalClient({ ...config, settings }, warningLogger)
        : await openServerClient(url);
    try {
      const comparisons: AnswerComparison[] = [];
      for (const [index, query] of queries.entries()) {
        signal.throwIfAborted();
        const legacyResult = legacyResults[index];
        if (legacyResult === undefined) throw new Error("a query has no result");
        const found = await searchService(service.client, query, options);
        comparisons.push(compareAnswers(query.text, legacyResult, found));
      }
      const summary = summarizeComparisons(comparisons);
      const notes =
        problem === undefined
          ? []
          : [`the old vectors cannot be used (${problem}); comparing with its text search`];
      process.stdout.write(
        options.json
          ? `${JSON.stringify({ summary, notes, queries: comparisons }, undefined, 2)}\n`
          : format(summary, notes, comparisons),
      );
      return summary.clearSameTop === summary.clear ? 0 : 1;
    } catch (error) {
      throw toCliError(error, url ?? "the configured database");
    } finally {
      await service.close();
    }
  } catch (error) {
    throw signal.aborted ? new StartupError("interrupted") : error;
  } finally {
    await source.close();
  }
}

/** Embeds the queries that have no embedding yet, without prefixes, as the old server did. */
async function embedMissing(
  settings: SettingValues,
  queries: readonly CompareQuery[],
  signal: AbortSignal,
): Promise<readonly CompareQuery[]> {
  const isMissing = (query: CompareQuery) =>
    query.useVector && query.text.trim() !== "" && query.embedding === undefined;
  const texts = queries.filter(isMissing).map(({ text }) => text);
  if (texts.length === 0) return queries;
  const embedder = createUnprefixedEmbedder(settings, warningLogger);
  try {
    const embeddings = await embedder.embed(texts, "query", signal).catch((error: unknown) => {
      throw new StartupError(`cannot embed the queries for the old data: ${messageOf(error)}`, {
        cause: error,
      });
    });
    let next = 0;
    return queries.map((query) => (isMissing(query) ? { ...query, embedding: embeddings[next++] } : query));
  } finally {
    await embedder.close();
  }
}

/** Searches as the MCP tool search_memories does, or semantically with `--mode semantic`. */
async function searchService(
  client: MemoryClient,
  { text, limit, useVector }: CompareQuery,
  { domain, mode }: CompareOptions,
): Promise<string[]> {
  if (mode === "semantic" && useVector && text.trim() !== "") {
    const { hits } = await client.search({
      query: text,
      domain: domain ?? "",
      limit,
      mode: SearchMode.SEMANTIC,
    });
    return hits.flatMap(({ memory }) => (memory === undefined ? [] : [memory.id]));
  }
  const tools = createServiceTools(client, (name) => name);
  const found = await tools.search({ query: text, domain, limit, useVector });
  return found.map(({ id }) => id);
}

function format(
  summary: ComparisonSummary,
  notes: readonly string[],
  comparisons: readonly AnswerComparison[],
): string {
  const lines = comparisons.map((one) => {
    const [top] = one.ranks;
    const verdict = one.sameTop
      ? "same top"
      : top === undefined
        ? "old result is empty"
        : top.new === undefined
          ? "old top is not in the new result"
          : `old top is now rank ${top.new}`;
    return `${one.clear ? "clear  " : "       "}${`${one.common}/${one.old}`.padStart(8)}  ${verdict.padEnd(32)}  ${shorten(one.query)}`;
  });
  return `${[
    ...notes,
    ...lines,
    "",
    `${formatCount(summary.queries)} queries: ${formatCount(summary.sameTop)} with the same top memory; of ${formatCount(summary.clear)} with a clear old result, ${formatCount(summary.clearSameTop)}`,
    `${(summary.overlap * 100).toFixed(1)} % of the memories in old results are in the new ones, ${summary.meanRankChange.toFixed(1)} ranks away on average`,
  ].join("\n")}\n`;
}

function shorten(query: string): string {
  const line = query.replace(/[\p{Cc}\s]+/gu, " ");
  return line.length > 60 ? `${line.slice(0, 59)}…` : line;
}
