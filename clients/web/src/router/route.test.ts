import { describe, expect, it } from "vitest";
import { formatRoute, formatRunView, parseRoute, parseRunView, type Route, type RunView } from "./route";

const routes: readonly Route[] = [
  { page: "projects" },
  { page: "project", project: "demo" },
  { page: "cases", project: "demo" },
  { page: "run", run: "01900000-0000-7000-8000-000000000001" },
  { page: "case", testCase: "a/b c%2F" },
];

describe("parseRoute", () => {
  for (const route of routes) {
    it(`reads back what formatRoute wrote for ${route.page}`, () => {
      expect(parseRoute(formatRoute(route))).toEqual(route);
    });
  }

  it("passes over a trailing slash", () => {
    expect(parseRoute("/projects/demo/")).toEqual({ page: "project", project: "demo" });
  });

  for (const path of [
    "/nothing",
    "/runs",
    "/projects/demo/other",
    "/projects/demo/cases/7",
    "/runs/%E0%A4%A",
  ]) {
    it(`calls ${path} not found`, () => {
      expect(parseRoute(path)).toEqual({ page: "not-found", path });
    });
  }
});

describe("parseRunView", () => {
  it("reads back what formatRunView wrote, whatever characters a test's name has", () => {
    const view: RunView = { filter: "a&b=c", only: "failed", suite: "x/y", test: "Test/ü #1?&+ 2" };
    expect(parseRunView(formatRunView(view))).toEqual(view);
  });

  it("leaves defaults out of the address", () => {
    expect(formatRunView({ filter: "", only: "all", suite: undefined, test: undefined })).toBe("");
  });

  it("takes an unknown word for the default", () => {
    expect(parseRunView("?only=constructor").only).toBe("all");
  });

  it("selects no test without its suite", () => {
    expect(parseRunView("?test=TestA")).toMatchObject({ suite: undefined, test: undefined });
  });

  it("tells a selected suite from a selected test with an empty name", () => {
    expect(parseRunView("?suite=x").test).toBeUndefined();
  });
});
