import type { Environment } from "../environment";

/**
 * Browsers allow six connections to an HTTP/1.1 server, over all tabs: with
 * these many held open, calls still pass. A tab without a slot polls.
 */
const slots = ["tcm-watch-1", "tcm-watch-2", "tcm-watch-3"] as const;

/** Slot is a tab's right to hold a connection open, or the lack of it. */
export class Slot {
  #giveBack: (() => void) | undefined;
  #closed = false;

  constructor(readonly environment: Environment) {}

  /** Takes one of the slots, if one is free or this tab has one already. Where there are no locks, there is always one. */
  async take(): Promise<boolean> {
    const { tryLock } = this.environment;
    if (tryLock === undefined) return true;
    for (const name of slots) {
      if (this.#giveBack !== undefined || this.#closed) break;
      this.#keep(await tryLock(name).catch(() => undefined));
    }
    return this.#giveBack !== undefined;
  }

  /** Gives the slot back for good. */
  close(): void {
    this.#closed = true;
    this.#giveBack?.();
    this.#giveBack = undefined;
  }

  /** Keeps a lock, unless it came too late. */
  #keep(giveBack: (() => void) | undefined): void {
    if (this.#closed) giveBack?.();
    else this.#giveBack = giveBack;
  }
}
