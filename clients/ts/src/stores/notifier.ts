import type { Environment } from "../environment";
import { callSafely } from "../session/call-safely";

/** Notifier batches changes: however many there are, refresh and the listeners run once a frame. */
export class Notifier {
  readonly #listeners = new Set<() => void>();
  #scheduled = false;
  #closed = false;

  /** refresh makes the new snapshot, before the listeners are told. */
  constructor(
    readonly environment: Environment,
    readonly refresh: () => void,
  ) {}

  readonly subscribe = (listener: () => void): (() => void) => {
    // Not the function itself: two subscribers may pass the same one.
    const own = () => listener();
    this.#listeners.add(own);
    return () => {
      this.#listeners.delete(own);
    };
  };

  /** Something changed. */
  changed(): void {
    if (this.#scheduled || this.#closed) return;
    this.#scheduled = true;
    this.environment.frame(() => {
      this.#scheduled = false;
      if (this.#closed) return;
      this.refresh();
      for (const listener of [...this.#listeners]) callSafely(listener);
    });
  }

  /** Tells nobody anything any more. */
  close(): void {
    this.#closed = true;
    this.#listeners.clear();
  }
}
