import { StartupError } from "../../util/startup-error.ts";
import { keyOfId } from "../readers/inspect-vectors.ts";
import type { LegacySource } from "../readers/open-legacy-source.ts";
import { MEMORIES } from "../readers/read-database.ts";
import { decodeText } from "../readers/stored-value.ts";

/** The old embeddings that may be reused. */
export interface ReuseCandidates {
  readonly count: number;
  /** The numbers of the other embeddings, by the reason why they cannot be reused. */
  readonly others: readonly (readonly [number, string])[];
}

/**
 * Finds the memories whose old embedding covers exactly their text: they have a single chunk with the whole, current
 * text and a vector that is not zero. Records them in the table `candidate` of the scratch database.
 *
 * @throws StartupError if no old embedding can be reused.
 */
export function findCandidates({ database, scratch, vectors }: LegacySource): ReuseCandidates {
  const { problem, chunks } = vectors.findings;
  if (problem !== undefined || vectors.index === undefined || chunks === 0) {
    const reason = problem ?? "there are none";
    throw new StartupError(
      `cannot reuse the old embeddings: ${reason}; omit --reuse-vectors to re-embed every memory`,
    );
  }
  scratch.exec("create table candidate (key text primary key, row integer, length integer)");
  const insert = scratch.prepare("insert into candidate (key, row, length) values (?, ?, ?)");
  const chunksOf = scratch.prepare("select row, content from chunk where key = ? order by row limit 2");
  const stateOf = scratch.prepare("select state, stale from memory where key = ?");
  const others = new Map<string, number>();
  let count = 0;
  for (const row of database.rows(MEMORIES)) {
    const { id = null, content = null } = row;
    const key = keyOfId(id);
    const { state, stale } = stateOf.get(key) ?? {};
    const [chunk, another] = chunksOf.all(key);
    const { text, exact } = decodeText(content);
    const reason = database.isRepeated(row)
      ? "several memories have this id"
      : state !== "ok"
        ? (STATE_REASONS[String(state)] ?? "the memory has none")
        : stale !== null
          ? "the embedding missed a change of the memory"
          : another !== undefined || chunk?.content !== text || !exact
            ? "the old server split the text or dropped a part of it"
            : undefined;
    if (reason !== undefined) others.set(reason, (others.get(reason) ?? 0) + 1);
    else {
      insert.run(key, Number(chunk?.row), text.length);
      count++;
    }
  }
  return { count, others: [...others].map(([reason, memories]) => [memories, reason] as const) };
}

/** Describes the candidates for a dry run, in one sentence each. */
export function describeCandidates({ count, others }: ReuseCandidates): string[] {
  return [
    `${count} old embeddings can be reused if a sample of them matches what the model computes today`,
    ...others.map(describeOther),
  ];
}

/** Describes how many embeddings cannot be reused, and why. */
export function describeOther([count, reason]: ReuseCandidates["others"][number]): string {
  return `${count} memories are re-embedded: ${reason}`;
}

const STATE_REASONS: Readonly<Record<string, string>> = {
  zero: "the old embedding is zero",
  "partly-zero": "the old embedding is partly zero",
  missing: "the memory has none",
  "no-row": "the memory has none",
};
