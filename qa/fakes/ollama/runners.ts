import type { Clock } from "./clock.ts";
import type { InstalledModel } from "./models.ts";
import { Refusal } from "./reply.ts";

/** How long a model stays loaded, and with which options. */
export interface LoadRequest {
  /** Runner options as one string; a different string reloads the model. */
  readonly options: string;
  /** Context size in tokens. */
  readonly contextLength: number;
  /** Idle time after which the model is unloaded: 0 means at once, negative never. */
  readonly keepAliveMs: number;
  /** Aborts when the client leaves. */
  readonly signal: AbortSignal;
}

/** A loaded model. */
export interface LoadedModel {
  readonly model: InstalledModel;
  readonly contextLength: number;
  /** Milliseconds since the epoch, or Infinity. */
  readonly expiresAtMs: number;
}

interface Runner {
  loadedOptions: string | undefined;
  expiresAtMs: number;
  users: number;
  loading: Promise<void> | undefined;
  whenIdle: (() => void)[];
  /** Resolves when the last text accepted so far is embedded. */
  tail: Promise<void>;
  contextLength: number;
  readonly model: InstalledModel;
}

/** Manages one runner for each model: loads it on first use, embeds one text at a time, and unloads it when idle. */
export class Runners {
  readonly #clock: Clock;
  readonly #loadMs: () => number;
  readonly #maxQueue: number;
  readonly #runners = new Map<string, Runner>();
  #waiting = 0;

  constructor(options: { clock: Clock; loadMs: () => number; maxQueue: number }) {
    this.#clock = options.clock;
    this.#loadMs = options.loadMs;
    this.#maxQueue = options.maxQueue;
  }

  /**
   * Runs `job` with the model loaded; `loadMs` is the duration of the load.
   *
   * @throws Refusal 503 if too many requests wait for a load; the signal's reason if the client leaves. If it leaves
   *   during the load that it caused, the load is aborted and the next request starts another.
   */
  async use<T>(model: InstalledModel, request: LoadRequest, job: (loadMs: number) => Promise<T>): Promise<T> {
    const runner = this.#runnerOf(model);
    const began = this.#clock.now();
    await this.#load(runner, request);
    const loadMs = this.#clock.now() - began;
    runner.users += 1;
    try {
      return await job(loadMs);
    } finally {
      runner.users -= 1;
      runner.expiresAtMs = request.keepAliveMs < 0 ? Infinity : this.#clock.now() + request.keepAliveMs;
      if (runner.users === 0) {
        for (const wake of runner.whenIdle.splice(0)) wake();
      }
    }
  }

  /** Runs `job` after all earlier ones of this model: the engine has one slot. */
  inTurn<T>(model: InstalledModel, signal: AbortSignal, job: () => Promise<T>): Promise<T> {
    const runner = this.#runnerOf(model);
    const turn = runner.tail.then(() => {
      signal.throwIfAborted();
      return job();
    });
    runner.tail = turn.then(
      () => undefined,
      () => undefined,
    );
    return turn;
  }

  loaded(): LoadedModel[] {
    return [...this.#runners.values()].filter((runner) => this.#isLoaded(runner));
  }

  unload(model: InstalledModel): void {
    this.#runnerOf(model).loadedOptions = undefined;
  }

  unloadAll(): void {
    for (const runner of this.#runners.values()) runner.loadedOptions = undefined;
  }

  #runnerOf(model: InstalledModel): Runner {
    const known = this.#runners.get(model.name);
    if (known?.model === model) return known;
    const runner: Runner = {
      loadedOptions: undefined,
      expiresAtMs: 0,
      users: 0,
      loading: undefined,
      whenIdle: [],
      tail: Promise.resolve(),
      contextLength: model.contextLength,
      model,
    };
    this.#runners.set(model.name, runner);
    return runner;
  }

  #isLoaded(runner: Runner): boolean {
    return runner.loadedOptions !== undefined && (runner.users > 0 || this.#clock.now() < runner.expiresAtMs);
  }

  async #load(runner: Runner, { options, contextLength, signal }: LoadRequest): Promise<void> {
    for (;;) {
      signal.throwIfAborted();
      if (runner.loading) {
        await this.#wait(runner.loading, signal);
      } else if (this.#isLoaded(runner) && runner.loadedOptions === options) {
        return;
      } else if (this.#isLoaded(runner) && runner.users > 0) {
        await this.#wait(new Promise((resolve) => runner.whenIdle.push(resolve)), signal);
      } else {
        const load = this.#clock.sleep(this.#loadMs(), signal).then(() => {
          runner.loadedOptions = options;
          runner.contextLength = contextLength;
          runner.expiresAtMs = Infinity;
        });
        runner.loadedOptions = undefined;
        runner.loading = load.then(
          () => undefined,
          () => undefined,
        );
        try {
          await load;
          return;
        } finally {
          runner.loading = undefined;
        }
      }
    }
  }

  async #wait(event: Promise<void>, signal: AbortSignal): Promise<void> {
    if (this.#waiting >= this.#maxQueue) {
      throw new Refusal(503, "server busy, please try again.  maximum pending requests exceeded");
    }
    this.#waiting += 1;
    const left = new Promise<never>((_, reject) => {
      signal.addEventListener("abort", () => reject(signal.reason), { once: true });
    });
    try {
      await Promise.race([event, left]);
    } finally {
      this.#waiting -= 1;
    }
  }
}
