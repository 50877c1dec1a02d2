export { type Clock, ManualClock, systemClock } from "./clock.ts";
export type { Era } from "./eras.ts";
export type { EnqueuedFault, Fault, FaultKind, FaultMatch, Faults } from "./faults.ts";
export { defaultModels, type FakeModel, type InstalledModel, type ModelStore } from "./models.ts";
export type { RecordedRequest } from "./request-log.ts";
export { type FakeOllama, type FakeOllamaOptions, startFakeOllama } from "./server.ts";
export { synonymGroups } from "./synonyms.ts";
export {
  cosineSimilarity,
  createEmbeddingSpace,
  type EmbeddingSpaceOptions,
  type FakeEmbeddingSpace,
} from "./vectors.ts";
