import { ActivityState } from "@tcmanager/gen/tcmanager/v1/collaboration_pb";

/** Typing is told again no sooner than this. */
export const repeatMs = 2000;

/** Without a key for this long the editor is only looking at the field. */
export const pauseMs = 4000;

/**
 * Teller tells the others what the editor does in one field: came in, types,
 * stopped typing, left. Keys come fast and the others need no more than a hint,
 * so typing is told at most once in repeatMs.
 */
export class Teller {
  readonly #tell: (state: ActivityState) => void;
  #here = false;
  #toldAt = Number.NEGATIVE_INFINITY;
  #pause: ReturnType<typeof setTimeout> | undefined;

  constructor(tell: (state: ActivityState) => void) {
    this.#tell = tell;
  }

  /** focus says that the cursor is in the field. */
  focus(): void {
    this.#here = true;
    this.#tell(ActivityState.FOCUSED);
  }

  /** type says that a key was pressed. */
  type(): void {
    const now = Date.now();
    if (now - this.#toldAt >= repeatMs) {
      this.#toldAt = now;
      this.#tell(ActivityState.TYPING);
    }
    clearTimeout(this.#pause);
    this.#pause = setTimeout(() => this.#stopped(), pauseMs);
  }

  /** leave says that the cursor left the field. */
  leave(): void {
    clearTimeout(this.#pause);
    this.#toldAt = Number.NEGATIVE_INFINITY;
    if (!this.#here) return;
    this.#here = false;
    this.#tell(ActivityState.LEFT);
  }

  /** again repeats what holds, to a server that may have forgotten: after a reconnect. */
  again(): void {
    if (this.#here) this.#tell(ActivityState.FOCUSED);
  }

  #stopped(): void {
    this.#toldAt = Number.NEGATIVE_INFINITY;
    if (this.#here) this.#tell(ActivityState.FOCUSED);
  }
}
