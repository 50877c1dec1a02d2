import { timestampDate } from "@bufbuild/protobuf/wkt";
import type { Domain } from "memory-service-client/memoryservice/v1/domain_service_pb.js";
import {
  type Memory,
  Memory_Embedding_State as State,
} from "memory-service-client/memoryservice/v1/memory_pb.js";
import type { SearchResponse } from "memory-service-client/memoryservice/v1/memory_service_pb.js";
import { formatCount } from "../output/format-count.ts";

/** Maximum number of characters of a text that is shown on one line. */
const LINE_LENGTH = 100;

/** Formats a memory with all its fields, the content last. */
export function formatMemory(memory: Memory): string {
  const fields: readonly (readonly [name: string, value: string | undefined])[] = [
    ["id", memory.id],
    ["domain", memory.domain],
    ["source", memory.source],
    ["importance", memory.importance === undefined ? "" : String(memory.importance)],
    ["tags", memory.tags.join(", ")],
    ["metadata", memory.metadata === undefined ? "" : JSON.stringify(memory.metadata)],
    ["created", timeOf(memory.createTime)],
    ["updated", timeOf(memory.updateTime)],
    ["expires", timeOf(memory.expireTime)],
    ["version", String(memory.version)],
    ["embedding", embeddingOf(memory)],
  ];
  const head = fields
    .filter(([, value]) => value)
    .map(([name, value]) => `${name.padEnd(11)}${printable(value ?? "")}`);
  return `${head.join("\n")}\n\n${printable(memory.content, true)}\n`;
}

/** Formats memories, one per line. */
export function formatList(memories: readonly Memory[]): string {
  return memories
    .map(
      (memory) =>
        `${memory.id}  ${timeOf(memory.createTime)}  ${firstLine(memory.preview || memory.content)}\n`,
    )
    .join("");
}

/** Formats the hits of a search, two lines each. */
export function formatSearch({ hits, info }: SearchResponse): string {
  const found = hits.map(({ memory, score, snippet }, index) => {
    const labels = [memory?.source ?? "", ...(memory?.tags ?? []).map((tag) => `#${tag}`)].filter(Boolean);
    const head = [`${index + 1}.`, score.toFixed(4), memory?.domain, memory?.id, ...labels].join("  ");
    return `${printable(head)}\n    ${firstLine(snippet?.text ?? "")}\n`;
  });
  if (hits.length === 0) found.push("no memories found\n");
  if (info?.degraded)
    found.push("(full-text search only: the embedder is unavailable or has not embedded this domain yet)\n");
  return found.join("");
}

/** Formats domains as a table. */
export function formatDomains(domains: readonly Domain[]): string {
  const rows = domains.map((domain) => [
    domain.name,
    formatCount(domain.memoryCount),
    formatCount(domain.pendingCount),
    formatCount(domain.failedCount),
    domain.embeddingVersion?.model ?? "none yet",
    firstLine(domain.description),
  ]);
  const all = [["domain", "memories", "pending", "failed", "embeddings", "description"], ...rows];
  const widths = (all[0] ?? []).map((_, column) => Math.max(...all.map((row) => row[column]?.length ?? 0)));
  return all
    .map(
      (row) =>
        `${row
          .map((cell, column) => cell.padEnd(widths[column] ?? 0))
          .join("  ")
          .trimEnd()}\n`,
    )
    .join("");
}

function embeddingOf({ embedding }: Memory): string {
  switch (embedding?.state) {
    case State.READY:
      return `ready (version ${embedding.version})`;
    case State.FAILED:
      return `failed: ${embedding.failureReason}`;
    default:
      return "pending";
  }
}

function timeOf(time: Memory["createTime"]): string {
  return time === undefined ? "" : timestampDate(time).toISOString();
}

function firstLine(text: string): string {
  const line = printable(text.trim().replace(/\s+/g, " "));
  return line.length > LINE_LENGTH ? `${line.slice(0, LINE_LENGTH - 1).toWellFormed()}…` : line;
}

/** Replaces control characters, so that a stored text cannot control the terminal. */
function printable(text: string, multiline = false): string {
  return text.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, (character) =>
    (multiline && (character === "\n" || character === "\t")) || character === "\u200d" ? character : "�",
  );
}
