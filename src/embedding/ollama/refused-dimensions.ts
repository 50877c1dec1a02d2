import { canShortenTo, describeDimensions, type ModelProfile } from "../model-profile.ts";

/**
 * Returns why the model cannot produce embeddings of the dimensions that the profile asks for; undefined if it can, or if
 * that is unknown. Ollama itself shortens the embeddings of any model without an error.
 *
 * @param native The model's own dimensions; undefined if unknown.
 */
export function refusedDimensions(profile: ModelProfile, native: number | undefined): string | undefined {
  const { shortenTo } = profile;
  if (shortenTo === undefined || native === undefined || shortenTo === native) return undefined;
  if (shortenTo < native && canShortenTo(profile, shortenTo)) return undefined;
  const allowed = describeDimensions(profile, native);
  return `has ${native} dimensions and cannot produce ${shortenTo}; allowed: ${allowed}`;
}
