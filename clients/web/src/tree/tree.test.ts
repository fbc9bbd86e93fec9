import { Status } from "@tcmanager/gen/tcmanager/v1/execution_pb";
import { describe, expect, it } from "vitest";
import { RunTree, type Tally, type TreeNode, type TreeRow } from "./tree";

const { PASSED, FAILED, RUNNING, SKIPPED, ERRORED } = Status;

function row(suite: string, name: string, parent = "", status = PASSED, flaky = false): TreeRow {
  return { suite, name, parent, status, flaky };
}

function grown(...rows: readonly TreeRow[]): RunTree {
  const tree = new RunTree();
  for (const [index, each] of rows.entries()) tree.upsert(index, each);
  return tree;
}

function depth(node: TreeNode): number {
  return node.parent === undefined ? 0 : 1 + depth(node.parent);
}

const drawn = (tree: RunTree): string[] =>
  tree.visible().map((node) => "  ".repeat(depth(node)) + node.label);

/** The tally of a node, counted the slow way. */
function recount(node: TreeNode): Pick<Tally, "total" | "passed" | "failed" | "flaky"> {
  const sum = { total: 0, passed: 0, failed: 0, flaky: 0 };
  for (const child of node.children) {
    const below = recount(child);
    sum.total += below.total + (child.row === -1 ? 0 : 1);
    sum.passed += below.passed + (child.status === PASSED ? 1 : 0);
    sum.failed += below.failed + (child.status === FAILED ? 1 : 0);
    sum.flaky += below.flaky + (child.flaky ? 1 : 0);
  }
  return sum;
}

describe("RunTree", () => {
  it("draws suites, tests and subtests in the order of their first appearance", () => {
    const tree = grown(
      row("b", "TestB"),
      row("a", "TestA"),
      row("b", "TestB/one", "TestB"),
      row("a", "TestC"),
    );
    expect(drawn(tree)).toEqual(["b", "  TestB", "    one", "a", "  TestA", "  TestC"]);
  });

  it("takes the parent from the row and never from slashes", () => {
    const tree = grown(row("p", "TestA"), row("p", "TestA/x/y", "TestA"), row("p", "TestB/z"));
    expect(drawn(tree)).toEqual(["p", "  TestA", "    x/y", "  TestB/z"]);
  });

  it("shows the full name of a test whose parent is not a prefix of it", () => {
    const tree = grown(row("p", "TestA"), row("p", "ExampleB", "TestA"));
    expect(drawn(tree)).toEqual(["p", "  TestA", "    ExampleB"]);
  });

  it("moves a parent that is told of after its parts, with all its counts", () => {
    const tree = new RunTree();
    tree.upsert(0, row("p", "A/B/c", "A/B", FAILED));
    tree.upsert(1, row("p", "A", "", FAILED));
    tree.upsert(2, row("p", "A/B", "A", FAILED));
    expect(drawn(tree)).toEqual(["p", "  A", "    B", "      c"]);
    for (const node of tree.nodes) if (node.tally) expect(node.tally).toMatchObject(recount(node));
    expect(tree.find("p", undefined)?.tally).toMatchObject({ total: 3, failed: 3 });
  });

  it("does not count a parent that never came itself", () => {
    const tree = grown(row("p", "A/b", "A"));
    expect(tree.find("p", undefined)?.tally?.total).toBe(1);
  });

  it("survives tests that name each other or themselves as parents", () => {
    const tree = grown(row("p", "A", "B"), row("p", "B", "A"), row("p", "C", "C"));
    expect([...drawn(tree)].sort()).toEqual(["    A", "  B", "  C", "p"]);
  });

  it("tells tests of the same name in two suites apart", () => {
    const tree = grown(row("p", "TestA", "", PASSED), row("q", "TestA", "", FAILED));
    expect(tree.find("p", "TestA")?.status).toBe(PASSED);
    expect(tree.find("q", "TestA")?.status).toBe(FAILED);
  });

  it("keeps each tally true through any changes", () => {
    const tree = new RunTree();
    const states = [RUNNING, PASSED, FAILED, SKIPPED];
    let seed = 7;
    const random = (n: number): number => {
      seed = (seed * 48271) % 2147483647;
      return seed % n;
    };
    for (let step = 0; step < 2000; step++) {
      const id = random(60);
      const parent = id < 6 ? "" : `T${Math.floor(id / 3) - 2}`;
      tree.upsert(id, row(`s${id % 2}`, `T${id}`, parent, states[random(4)] ?? PASSED, random(9) === 0));
    }
    for (const node of tree.nodes) if (node.tally) expect(node.tally).toMatchObject(recount(node));
  });

  it("gives the same array while no line comes or goes", () => {
    const tree = grown(row("p", "A", "", RUNNING));
    const before = tree.visible();
    tree.upsert(0, row("p", "A", "", PASSED));
    expect(tree.visible()).toBe(before);
    expect(before[1]?.status).toBe(PASSED);
  });

  it("hides what is below a collapsed node, also when it comes later", () => {
    const tree = grown(row("p", "A"), row("p", "A/b", "A"));
    const suite = tree.find("p", undefined);
    if (suite) tree.setOpen(suite, false);
    tree.upsert(2, row("p", "C"));
    expect(drawn(tree)).toEqual(["p"]);
  });

  it("collapses new nodes if told to, and reveals one on demand", () => {
    const tree = new RunTree();
    tree.expandNew = false;
    tree.upsert(0, row("p", "A"));
    tree.upsert(1, row("p", "A/b", "A"));
    expect(drawn(tree)).toEqual(["p"]);
    const node = tree.find("p", "A/b");
    if (node) tree.reveal(node);
    expect(drawn(tree)).toEqual(["p", "  A", "    b"]);
  });
});

describe("RunTree.setFilter", () => {
  it("shows what matches, with all that it is part of, though that was collapsed", () => {
    const tree = new RunTree();
    tree.expandNew = false;
    for (const [at, each] of [row("p", "A"), row("p", "A/Wanted", "A"), row("q", "B")].entries())
      tree.upsert(at, each);
    tree.setFilter({ text: "wanted", only: "all" });
    expect(drawn(tree)).toEqual(["p", "  A", "    Wanted"]);
    tree.setFilter({ text: "", only: "all" });
    expect(drawn(tree)).toEqual(["p", "q"]);
  });

  it("forgets at the old place what moved to another", () => {
    const tree = new RunTree();
    tree.upsert(0, row("p", "A/B/c", "A/B"));
    tree.upsert(1, row("p", "A"));
    tree.upsert(2, row("p", "A/B", "A"));
    expect(tree.matching).toBe(4);
    tree.setFilter({ text: "nothing", only: "all" });
    expect(tree.matching).toBe(0);
    expect(drawn(tree)).toEqual([]);
  });

  it("takes words in any order from suite and name", () => {
    const tree = grown(row("net/http", "TestServe"), row("net/url", "TestServe"));
    tree.setFilter({ text: "serve HTTP", only: "all" });
    expect(drawn(tree)).toEqual(["net/http", "  TestServe"]);
  });

  it("follows a test in and out of the states it shows", () => {
    const tree = grown(row("p", "A", "", RUNNING), row("p", "B"));
    tree.setFilter({ text: "", only: "failed" });
    expect(drawn(tree)).toEqual([]);
    tree.upsert(0, row("p", "A", "", FAILED));
    expect(drawn(tree)).toEqual(["p", "  A"]);
    tree.upsert(0, row("p", "A", "", PASSED));
    expect(drawn(tree)).toEqual([]);
  });

  it("counts a suite that broke without a failing test as failed", () => {
    const tree = grown(row("p", "A"));
    tree.setSuite("broken", ERRORED);
    tree.setSuite("p", FAILED);
    tree.setFilter({ text: "", only: "failed" });
    expect(drawn(tree)).toEqual(["broken"]);
  });

  it("lets a node be collapsed without forgetting how it was before the filter", () => {
    const tree = grown(row("p", "A"));
    tree.setFilter({ text: "a", only: "all" });
    const suite = tree.find("p", undefined);
    if (suite) tree.setOpen(suite, false);
    expect(drawn(tree)).toEqual(["p"]);
    tree.setFilter({ text: "", only: "all" });
    expect(drawn(tree)).toEqual(["p", "  A"]);
  });

  it("takes 50,000 tests in well under a second", () => {
    const tree = new RunTree();
    const began = performance.now();
    for (let at = 0; at < 50_000; at++) {
      const parent = at % 50 === 0 ? "" : `T${Math.floor(at / 50) * 50}`;
      tree.upsert(
        at,
        row(
          `suite/${at % 50 === 0 ? Math.floor(at / 1000) : Math.floor((at - (at % 50)) / 1000)}`,
          `T${at}`,
          parent,
        ),
      );
    }
    expect(tree.visible()).toHaveLength(50_050);
    tree.setFilter({ text: "t499", only: "all" });
    expect(tree.visible().length).toBeGreaterThan(100);
    expect(performance.now() - began).toBeLessThan(1000);
  });
});
