import { describe, expect, it } from "vitest";
import { rowsAround } from "./useRowWindow";

describe("rowsAround", () => {
  it("is what is in sight, and as much as asked above and below", () => {
    expect(rowsAround({ first: 100, rows: 20 }, 200_000, 12)).toEqual({ first: 88, end: 132 });
  });

  it("ends with the list on both sides", () => {
    expect(rowsAround({ first: 0, rows: 20 }, 200_000, 12)).toEqual({ first: 0, end: 32 });
    expect(rowsAround({ first: 199_980, rows: 20 }, 200_000, 12)).toEqual({ first: 199_968, end: 200_000 });
  });

  it("shows the end of a list that became shorter than where it was scrolled to", () => {
    expect(rowsAround({ first: 100_000, rows: 20 }, 24, 12)).toEqual({ first: 0, end: 24 });
    expect(rowsAround({ first: 100_000, rows: 20 }, 0, 12)).toEqual({ first: 0, end: 0 });
  });

  it("has some rows before the box was measured", () => {
    expect(rowsAround({ first: 0, rows: 0 }, 200_000, 12)).toEqual({ first: 0, end: 12 });
  });
});
