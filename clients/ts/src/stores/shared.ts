import type { Environment } from "../environment";

/** A room outlives its last holder by this much: React mounts twice in development, and people go back. */
const lingerMs = 5_000;

interface Shared<T> {
  readonly value: T;
  holders: number;
  cancelLinger: () => void;
}

/** SharedStores makes one store a name, however many open it, and stops it a while after the last closed it. */
export class SharedStores<T extends { stop(): void }> {
  readonly #byName = new Map<string, Shared<T>>();

  /** isSpent says that a store is of no use to who opens it now: the next one gets another. */
  constructor(
    readonly environment: Environment,
    readonly isSpent: (value: T) => boolean,
  ) {}

  /** Returns the store of name, made if there is none, and the function that gives it back. */
  open(name: string, make: () => T): { readonly value: T; readonly close: () => void } {
    let shared = this.#byName.get(name);
    if (shared === undefined || this.isSpent(shared.value)) {
      shared = { value: make(), holders: 0, cancelLinger: () => {} };
      this.#byName.set(name, shared);
    }
    shared.cancelLinger();
    shared.holders++;
    return { value: shared.value, close: this.#closer(name, shared) };
  }

  /** Stops all at once. */
  close(): void {
    for (const shared of this.#byName.values()) {
      shared.cancelLinger();
      shared.value.stop();
    }
    this.#byName.clear();
  }

  /** The function that gives one share back; calling it again does nothing. */
  #closer(name: string, shared: Shared<T>): () => void {
    let closed = false;
    return () => {
      if (closed) return;
      closed = true;
      shared.holders--;
      if (shared.holders > 0) return;
      shared.cancelLinger = this.environment.after(lingerMs, () => {
        if (this.#byName.get(name) === shared) this.#byName.delete(name);
        shared.value.stop();
      });
    };
  }
}
