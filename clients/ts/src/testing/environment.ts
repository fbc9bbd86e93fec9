import type { Environment, WakeSignal } from "../environment";

/** Counted over all environments: two tabs of one user must not make the same request ids. */
let lastUuid = 0;

interface Timer {
  readonly dueMs: number;
  readonly run: () => void;
}

/** TestLocks are the locks that the tabs of one browser share. */
export class TestLocks {
  /** The names of those that are taken. */
  readonly taken = new Set<string>();

  readonly tryLock = async (name: string): Promise<(() => void) | undefined> => {
    if (this.taken.has(name)) return undefined;
    this.taken.add(name);
    return () => void this.taken.delete(name);
  };
}

/**
 * TestEnvironment is an Environment in which time stands still until advance is
 * called, chance is what one says, and frames come at once after the current
 * task.
 */
export class TestEnvironment implements Environment {
  /** What random returns. */
  chance = 0.5;
  /** What online returns; signal("offline") does not change it. */
  isOnline = true;
  /** What visible returns; signal("hidden") does not change it. */
  isVisible = true;
  /** Undefined, as on pages without TLS; give several environments one TestLocks' to make them tabs of a browser. */
  tryLock: Environment["tryLock"] = undefined;
  #nowMs: number;
  readonly #timers = new Set<Timer>();
  readonly #listeners = new Set<(signal: WakeSignal) => void>();

  constructor(startMs = Date.UTC(2026, 0, 1)) {
    this.#nowMs = startMs;
  }

  readonly now = (): number => this.#nowMs;

  readonly random = (): number => this.chance;

  readonly uuid = (): string => {
    lastUuid++;
    return `00000000-0000-4000-8000-${lastUuid.toString(16).padStart(12, "0")}`;
  };

  readonly after = (delayMs: number, run: () => void): (() => void) => {
    const timer = { dueMs: this.#nowMs + Math.max(delayMs, 0), run };
    this.#timers.add(timer);
    return () => {
      this.#timers.delete(timer);
    };
  };

  readonly frame = (run: () => void): void => queueMicrotask(run);

  readonly online = (): boolean => this.isOnline;

  readonly visible = (): boolean => this.isVisible;

  readonly onSignal = (listener: (signal: WakeSignal) => void): (() => void) => {
    this.#listeners.add(listener);
    return () => {
      this.#listeners.delete(listener);
    };
  };

  /** The delays of the timers that wait, shortest first. */
  get pendingMs(): readonly number[] {
    return [...this.#timers].map(({ dueMs }) => dueMs - this.#nowMs).sort((a, b) => a - b);
  }

  /** Tells what happened to the machine or the page. */
  signal(signal: WakeSignal): void {
    for (const listener of [...this.#listeners]) listener(signal);
  }

  /** Lets time pass; timers that come due run in order, also those that others start. */
  advance(ms: number): void {
    const untilMs = this.#nowMs + ms;
    for (;;) {
      const next = this.#nextDue(untilMs);
      if (next === undefined) break;
      this.#timers.delete(next);
      this.#nowMs = Math.max(this.#nowMs, next.dueMs);
      next.run();
    }
    this.#nowMs = untilMs;
  }

  #nextDue(untilMs: number): Timer | undefined {
    let next: Timer | undefined;
    for (const timer of this.#timers) {
      if (timer.dueMs <= untilMs && (next === undefined || timer.dueMs < next.dueMs)) next = timer;
    }
    return next;
  }
}
