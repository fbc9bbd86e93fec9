import { ActivityState } from "@tcmanager/gen/tcmanager/v1/collaboration_pb";
import { beforeEach, describe, expect, it, vi } from "vitest";
import { pauseMs, repeatMs, Teller } from "./teller";

const { FOCUSED, TYPING, LEFT } = ActivityState;

function told() {
  const states: ActivityState[] = [];
  return { states, teller: new Teller((state) => states.push(state)) };
}

describe("Teller", () => {
  beforeEach(() => {
    vi.useFakeTimers();
    return () => vi.useRealTimers();
  });

  it("tells of coming, typing, and leaving", () => {
    const { states, teller } = told();
    teller.focus();
    teller.type();
    teller.leave();
    expect(states).toEqual([FOCUSED, TYPING, LEFT]);
  });

  it("tells of typing at most once in two seconds", () => {
    const { states, teller } = told();
    teller.focus();
    for (let key = 0; key < 100; key++) {
      teller.type();
      vi.advanceTimersByTime(50);
    }
    // 5 seconds of keys.
    expect(states).toEqual([FOCUSED, TYPING, TYPING, TYPING]);
    expect(repeatMs).toBe(2000);
  });

  it("takes typing back after a pause, and tells at once when it goes on", () => {
    const { states, teller } = told();
    teller.focus();
    teller.type();
    vi.advanceTimersByTime(pauseMs);
    teller.type();
    expect(states).toEqual([FOCUSED, TYPING, FOCUSED, TYPING]);
  });

  it("says nothing more after leaving", () => {
    const { states, teller } = told();
    teller.focus();
    teller.type();
    teller.leave();
    teller.leave();
    teller.again();
    vi.advanceTimersByTime(2 * pauseMs);
    expect(states).toEqual([FOCUSED, TYPING, LEFT]);
  });

  it("repeats after a reconnect that the editor is there", () => {
    const { states, teller } = told();
    teller.focus();
    teller.again();
    expect(states).toEqual([FOCUSED, FOCUSED]);
  });
});
