import { describe, expect, it } from "vitest";
import { formatAgo, formatClock, formatDuration } from "./duration";

describe("formatDuration", () => {
  const cases: readonly (readonly [number, string])[] = [
    [0, "0 ms"],
    [0.4, "0.4 ms"],
    [2, "2 ms"],
    [9.96, "10 ms"],
    [18.4, "18 ms"],
    [999.4, "999 ms"],
    [999.6, "1.00 s"],
    [1240, "1.24 s"],
    [9_996, "10.0 s"],
    [12_440, "12.4 s"],
    [59_960, "1 m 00 s"],
    [187_000, "3 m 07 s"],
    [7_500_000, "2 h 05 m"],
  ];
  for (const [ms, text] of cases) {
    it(`writes ${ms} ms as ${text}`, () => {
      expect(formatDuration(ms)).toBe(text);
    });
  }

  it("shows no number for a time that is not known", () => {
    for (const ms of [-1, Number.NaN, Number.POSITIVE_INFINITY]) expect(formatDuration(ms)).toBe("–");
  });
});

describe("formatClock", () => {
  it("never runs ahead of the time", () => {
    expect(formatClock(59_999)).toBe("59 s");
    expect(formatClock(3_599_999)).toBe("59 m 59 s");
  });

  it("shows zero when the clocks differ", () => {
    expect(formatClock(-500)).toBe("0 s");
  });

  it("shows days for a run that was forgotten", () => {
    expect(formatClock(100 * 3600 * 1000)).toBe("4 d 04 h");
  });
});

describe("formatAgo", () => {
  const now = new Date(2026, 10, 24, 12, 0, 0).getTime();
  it("counts seconds, minutes and hours, then names the day", () => {
    expect(formatAgo(now - 4_000, now)).toBe("now");
    expect(formatAgo(now - 42_000, now)).toBe("42 s ago");
    expect(formatAgo(now - 300_000, now)).toBe("5 m ago");
    expect(formatAgo(now - 3 * 3_600_000, now)).toBe("3 h ago");
    expect(formatAgo(now - 3 * 24 * 3_600_000, now)).toBe("21 Nov");
    expect(formatAgo(now - 400 * 24 * 3_600_000, now)).toBe("20 Oct 2025");
  });

  it("calls a moment in the future now", () => {
    expect(formatAgo(now + 9_000, now)).toBe("now");
  });
});
