import { expect, test, vi } from "vitest";
import { Pace } from "./pace";

/** A display whose clock, pictures and timers are the test's. */
class TestDisplay {
  nowMs = 1_000;
  readonly before: (() => void)[] = [];
  readonly afterwards: (() => void)[] = [];
  readonly timers: { readonly delayMs: number; readonly run: () => void }[] = [];
  readonly pace = new Pace({
    now: () => this.nowMs,
    beforePaint: (run) => void this.before.push(run),
    afterPaint: (run) => void this.afterwards.push(run),
    after: (delayMs, run) => void this.timers.push({ delayMs, run }),
  });

  /** Makes the next picture, which takes so long. */
  picture(tookMs: number): void {
    for (const run of this.before.splice(0)) run();
    this.nowMs += tookMs;
    for (const run of this.afterwards.splice(0)) run();
  }

  /** Lets the timer run out that was started last. */
  timer(): void {
    const timer = this.timers.pop();
    this.nowMs += timer?.delayMs ?? 0;
    timer?.run();
  }
}

test("all that asks before a picture is shown in it, in order, and once", () => {
  const display = new TestDisplay();
  const shown: string[] = [];
  display.pace.next(() => shown.push("a"));
  display.pace.next(() => shown.push("b"));
  expect(shown).toEqual([]);
  display.picture(1);
  expect(shown).toEqual(["a", "b"]);
  display.picture(1);
  expect(shown).toEqual(["a", "b"]);
});

test("after a picture that took long there is a rest of three times that, in which nothing is lost", () => {
  const display = new TestDisplay();
  const show = vi.fn();
  display.pace.next(() => {});
  display.picture(20);
  display.pace.next(show);
  display.pace.next(show);
  expect(display.before).toEqual([]);
  expect(display.timers.map(({ delayMs }) => delayMs)).toEqual([60]);
  display.timer();
  display.picture(1);
  expect(show).toHaveBeenCalledTimes(2);
});

test("who waited for longer than the rest waits for the next picture only", () => {
  const display = new TestDisplay();
  display.pace.next(() => {});
  display.picture(20);
  display.nowMs += 61;
  display.pace.next(() => {});
  expect(display.timers).toEqual([]);
  expect(display.before.length).toBe(1);
});

test("a page that stood still for a minute rests no longer than a quarter of a second", () => {
  const display = new TestDisplay();
  display.pace.next(() => {});
  display.picture(60_000);
  display.pace.next(() => {});
  expect(display.timers.map(({ delayMs }) => delayMs)).toEqual([250]);
});

test("what is asked for while a picture is made is for the next", () => {
  const display = new TestDisplay();
  const later = vi.fn();
  display.pace.next(() => display.pace.next(later));
  display.picture(0);
  expect(later).not.toHaveBeenCalled();
  display.picture(0);
  expect(later).toHaveBeenCalledTimes(1);
});

test("one that throws doesn't keep the others from being shown", () => {
  const reported = vi.fn();
  vi.stubGlobal("reportError", reported);
  const display = new TestDisplay();
  const show = vi.fn();
  display.pace.next(() => {
    throw new Error("broken");
  });
  display.pace.next(show);
  display.picture(1);
  expect(show).toHaveBeenCalledTimes(1);
  expect(reported).toHaveBeenCalledTimes(1);
  vi.unstubAllGlobals();
});
