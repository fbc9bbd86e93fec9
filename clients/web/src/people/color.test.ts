import { describe, expect, it } from "vitest";
import { initials, personColor } from "./color";

describe("initials", () => {
  const cases: readonly (readonly [string, string])[] = [
    ["Demo Manager", "DM"],
    ["ada", "A"],
    ["Grace Brewster Hopper", "GH"],
    ["élodie ångström", "ÉÅ"],
    ["demo-tester", "DT"],
    ["  ", "?"],
  ];
  for (const [name, letters] of cases) {
    it(`writes ${JSON.stringify(name)} as ${letters}`, () => {
      expect(initials(name)).toBe(letters);
    });
  }
});

describe("personColor", () => {
  it("is the same for the same person and not the same for all", () => {
    expect(personColor("demo-manager")).toBe(personColor("demo-manager"));
    expect(new Set(["a", "b", "c", "d", "e"].map(personColor)).size).toBeGreaterThan(1);
  });
});
