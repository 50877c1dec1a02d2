import type { Repository } from "../model/repository.ts";
import { type Boost, boostHits, isBoosting } from "./boost.ts";
import { DIVERSE_HITS, diversify } from "./diversify.ts";
import { type Fusion, hitKey, type RankedHit } from "./fuse-scores.ts";

/** How to rank the candidates. */
export interface RankingOptions {
  /** How to combine the two legs. */
  readonly fusion: Fusion;
  readonly boost: Boost;
  /** How strongly to prefer hits that differ from the hits before them, 0 to 1. */
  readonly diversity: number;
}

/** Adjusts a ranking by age, importance and diversity, as far as requested. Reads the data for this, one domain at a time. */
export async function adjustRanking(
  repository: Pick<Repository, "readAgeAndImportance" | "readHitEmbeddings">,
  ranked: readonly RankedHit[],
  { boost, diversity, limit }: Pick<RankingOptions, "boost" | "diversity"> & { readonly limit: number },
  signal: AbortSignal,
): Promise<readonly RankedHit[]> {
  let hits = ranked;
  if (isBoosting(boost)) {
    const facts = await readByHit(hits, (domain, own) =>
      repository.readAgeAndImportance(
        domain,
        own.map(({ id }) => id),
        signal,
      ),
    );
    hits = boostHits(hits, boost, (hit) => facts.get(hitKey(hit)));
  }
  if (diversity > 0) {
    const embeddings = await readByHit(hits.slice(0, DIVERSE_HITS), (domain, own) =>
      repository.readHitEmbeddings(domain, own, signal),
    );
    hits = diversify(hits, limit, diversity, (hit) => embeddings.get(hitKey(hit)));
  }
  return hits;
}

async function readByHit<T extends { readonly id: string }>(
  hits: readonly RankedHit[],
  read: (domain: string, hits: readonly RankedHit[]) => Promise<T[]>,
): Promise<Map<string, T>> {
  const byHit = new Map<string, T>();
  for (const [domain, own] of Map.groupBy(hits, (hit) => hit.domain)) {
    for (const found of await read(domain, own)) byHit.set(hitKey({ domain, id: found.id }), found);
  }
  return byHit;
}
