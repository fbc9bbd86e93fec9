import { callSafely } from "./session/call-safely";

/** What a Pace asks of the page. */
export interface Display {
  /** Milliseconds, from whenever. */
  readonly now: () => number;
  /** Calls run once, before the next picture; soon also where there are none. */
  readonly beforePaint: (run: () => void) => void;
  /** Calls run once, after the picture that is being made. */
  readonly afterPaint: (run: () => void) => void;
  /** Calls run once after delayMs. */
  readonly after: (delayMs: number, run: () => void) => void;
}

/**
 * After a picture that took a time, none is made for so many times that time:
 * at least three quarters of the page's time are left for taking what arrives,
 * and for whoever clicks. A picture that took 5 ms is followed by the next but
 * one; nobody sees a difference.
 */
const restFactor = 3;
/** Below this a page that shows a clock would look as if it hung. */
const longestRestMs = 250;

/**
 * Pace says when to show what changed: before the next picture, unless the ones
 * before were dear. So a page that is slow, or on a slow machine, shows fewer
 * pictures of a burst, and not each of them late.
 */
export class Pace {
  #waiting: (() => void)[] = [];
  #restUntilMs = Number.NEGATIVE_INFINITY;

  constructor(readonly display: Display) {}

  /** Calls run once, when the next picture is due. */
  readonly next = (run: () => void): void => {
    this.#waiting.push(run);
    if (this.#waiting.length > 1) return;
    const { now, after, beforePaint } = this.display;
    const restMs = this.#restUntilMs - now();
    if (restMs > 0) after(restMs, () => beforePaint(this.#show));
    else beforePaint(this.#show);
  };

  readonly #show = (): void => {
    const { now, afterPaint } = this.display;
    const beganMs = now();
    const waiting = this.#waiting;
    this.#waiting = [];
    afterPaint(() => {
      const endedMs = now();
      this.#restUntilMs = endedMs + Math.min((endedMs - beganMs) * restFactor, longestRestMs);
    });
    for (const run of waiting) callSafely(run);
  };
}
