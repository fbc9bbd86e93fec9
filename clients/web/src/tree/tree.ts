import { Status } from "@tcmanager/gen/tcmanager/v1/execution_pb";
import { type Bucket, bucketOf } from "../status/status";

/** What the tree needs to know of a test. */
export interface TreeRow {
  readonly suite: string;
  /** The test's full name within its suite. */
  readonly name: string;
  /** The full name of the test this one is part of; empty for none. Never guessed from slashes. */
  readonly parent: string;
  readonly status: Status;
  readonly flaky: boolean;
}

/** How many tests below a node are in which state. */
export interface Tally {
  total: number;
  passed: number;
  failed: number;
  skipped: number;
  running: number;
  queued: number;
  flaky: number;
}

/** A line of the tree: a suite, or a test of one. It is changed in place; rev tells that it was. */
export interface TreeNode {
  readonly id: number;
  readonly kind: "suite" | "test";
  readonly suite: string;
  /** The test's full name; empty for a suite. */
  readonly name: string;
  /** The name without the parent's, where it begins with that; else the full name. */
  label: string;
  parent: TreeNode | undefined;
  children: TreeNode[];
  /** Unspecified for a suite that said nothing yet and for a test that is known as a parent only. */
  status: Status;
  flaky: boolean;
  /** The row this shows, as given to upsert; -1 while there is none. */
  row: number;
  /** Counts the tests below; undefined for a test without any. */
  tally: Tally | undefined;
  /** Grows with each change to what the line shows. */
  rev: number;
  expanded: boolean;
  /** Whether it is collapsed while a filter is on. Apart from expanded, so that clearing the filter brings the old picture back. */
  folded: boolean;
  /** Whether the filter takes this very node. */
  matches: boolean;
  /** How many nodes the filter takes, here and below. */
  shown: number;
}

/** A filter of the tree. */
export interface TreeFilter {
  /** Parts of a name, apart by spaces, all of which must be there; case does not matter. */
  readonly text: string;
  /** Which states; "all" for any. */
  readonly only: "all" | "failed" | "flaky" | "skipped" | "running";
}

const noFilter: TreeFilter = { text: "", only: "all" };

/**
 * RunTree is the tree of a run: suites, tests, subtests to any depth, with a
 * tally on each node that has something below it.
 *
 * A change to a test costs its depth. The flat list of visible lines is made
 * anew only when a line may have come or gone, in one walk over those visible.
 */
export class RunTree {
  readonly nodes: TreeNode[] = [];
  readonly #roots: TreeNode[] = [];
  readonly #suites = new Map<string, TreeNode>();
  readonly #tests = new Map<string, Map<string, TreeNode>>();
  #filter: TreeFilter = noFilter;
  #words: readonly string[] = [];
  #visible: TreeNode[] = [];
  #stale = false;

  /**
   * expandNew says whether nodes begin expanded: right for a run one can read
   * at a glance, wrong for one of 46,000 tests.
   */
  expandNew = true;

  /** Whether a filter is on. */
  get filtered(): boolean {
    return this.#filter.only !== "all" || this.#words.length > 0;
  }

  /** matching is how many lines the filter takes; all of them without one. */
  get matching(): number {
    return this.#roots.reduce((sum, root) => sum + root.shown, 0);
  }

  /** setSuite makes or changes a suite's line. */
  setSuite(name: string, status: Status): void {
    const node = this.#suite(name);
    if (node.status === status) return;
    node.status = status;
    node.rev++;
    this.#rematch(node);
  }

  /** upsert makes or changes a test's line; row is the caller's number for it. */
  upsert(row: number, test: TreeRow): void {
    const suite = this.#suite(test.suite);
    let node = this.#tests.get(test.suite)?.get(test.name);
    if (node === undefined) node = this.#add(suite, test.name, this.#parentOf(suite, test));
    else if (node.row === -1) this.#move(node, this.#parentOf(suite, test));
    if (node.row === row && node.status === test.status && node.flaky === test.flaky) {
      // Only what the tree does not look at changed, such as the duration.
      node.rev++;
      return;
    }
    this.#count(node.parent, node, -1);
    node.row = row;
    node.status = test.status;
    node.flaky = test.flaky;
    node.rev++;
    this.#count(node.parent, node, 1);
    this.#rematch(node);
  }

  /** find is the line of a test, or of a suite if name is undefined. */
  find(suite: string, name: string | undefined): TreeNode | undefined {
    return name === undefined ? this.#suites.get(suite) : this.#tests.get(suite)?.get(name);
  }

  /** setFilter shows only what the filter takes, with all that it is part of. */
  setFilter(filter: TreeFilter): void {
    this.#filter = filter;
    this.#words = filter.text.toLowerCase().split(/\s+/).filter(Boolean);
    for (const node of this.nodes) {
      node.shown = 0;
      node.folded = false;
    }
    for (const node of this.nodes) {
      node.matches = this.#takes(node);
      if (node.matches) addShown(node, 1);
    }
    this.#stale = true;
  }

  /** isOpen says whether what is below a node is shown. */
  isOpen(node: TreeNode): boolean {
    return this.filtered ? !node.folded : node.expanded;
  }

  /** setOpen expands or collapses a node. */
  setOpen(node: TreeNode, open: boolean): void {
    if (this.isOpen(node) === open) return;
    if (this.filtered) node.folded = !open;
    else node.expanded = open;
    node.rev++;
    this.#stale = true;
  }

  /** setAllOpen expands or collapses everything. */
  setAllOpen(open: boolean): void {
    for (const node of this.nodes) if (node.children.length > 0) this.setOpen(node, open);
  }

  /** reveal expands all that a node is part of. */
  reveal(node: TreeNode): void {
    for (let above = node.parent; above !== undefined; above = above.parent) this.setOpen(above, true);
  }

  /** visible is the flat list of lines, top to bottom; the same array until a line comes or goes. */
  visible(): readonly TreeNode[] {
    if (this.#stale) {
      this.#visible = [];
      this.#flatten(this.#roots, this.#visible);
      this.#stale = false;
    }
    return this.#visible;
  }

  #flatten(nodes: readonly TreeNode[], into: TreeNode[]): void {
    // An explicit stack: names nest as deep as a test likes to.
    const stack: { readonly list: readonly TreeNode[]; at: number }[] = [{ list: nodes, at: 0 }];
    for (let top = stack.at(-1); top !== undefined; top = stack.at(-1)) {
      const node = top.list[top.at++];
      if (node === undefined) stack.pop();
      else if (node.shown > 0) {
        into.push(node);
        if (node.children.length > 0 && this.isOpen(node)) stack.push({ list: node.children, at: 0 });
      }
    }
  }

  #suite(name: string): TreeNode {
    let node = this.#suites.get(name);
    if (node === undefined) {
      node = this.#make("suite", name, "", name, undefined);
      this.#suites.set(name, node);
      this.#tests.set(name, new Map());
      this.#roots.push(node);
      this.#rematch(node);
    }
    return node;
  }

  #parentOf(suite: TreeNode, test: TreeRow): TreeNode {
    if (test.parent === "" || test.parent === test.name) return suite;
    // A parent may be told of after its part: until then a line stands in for it.
    return this.#tests.get(suite.suite)?.get(test.parent) ?? this.#add(suite, test.parent, suite);
  }

  #add(suite: TreeNode, name: string, parent: TreeNode): TreeNode {
    const node = this.#make("test", suite.suite, name, labelOf(name, parent), parent);
    this.#tests.get(suite.suite)?.set(name, node);
    this.#attach(node, parent);
    this.#count(parent, node, 1);
    this.#rematch(node);
    return node;
  }

  #make(
    kind: TreeNode["kind"],
    suite: string,
    name: string,
    label: string,
    parent: TreeNode | undefined,
  ): TreeNode {
    const node: TreeNode = {
      id: this.nodes.length,
      kind,
      suite,
      name,
      label,
      parent,
      children: [],
      status: Status.UNSPECIFIED,
      flaky: false,
      row: -1,
      tally: undefined,
      rev: 0,
      expanded: this.expandNew,
      folded: false,
      matches: false,
      shown: 0,
    };
    this.nodes.push(node);
    return node;
  }

  #attach(node: TreeNode, parent: TreeNode): void {
    node.parent = parent;
    parent.children.push(node);
    parent.tally ??= emptyTally();
    parent.rev++;
    this.#stale = true;
  }

  /** #move hangs a stand-in under its real parent, with all that is below it. */
  #move(node: TreeNode, parent: TreeNode): void {
    if (node.parent === parent || isWithin(parent, node)) return;
    const before = node.parent;
    if (before !== undefined) {
      addShown(before, -node.shown);
      forEachTally(before, (tally) => addTally(tally, node, -1));
      before.children = before.children.filter((child) => child !== node);
      before.rev++;
    }
    this.#attach(node, parent);
    node.label = labelOf(node.name, parent);
    addShown(parent, node.shown);
    forEachTally(parent, (tally) => addTally(tally, node, 1));
  }

  #count(parent: TreeNode | undefined, node: TreeNode, sign: 1 | -1): void {
    const bucket = bucketOf(node.status);
    // A stand-in is not known to be a test that ran, so it isn't counted.
    const total = node.row === -1 ? 0 : sign;
    for (let above = parent; above !== undefined; above = above.parent) {
      above.tally ??= emptyTally();
      above.tally.total += total;
      if (bucket !== undefined) above.tally[bucket] += sign;
      if (node.flaky) above.tally.flaky += sign;
      above.rev++;
    }
  }

  #rematch(node: TreeNode): void {
    const matches = this.#takes(node);
    if (matches === node.matches) return;
    node.matches = matches;
    addShown(node, matches ? 1 : -1);
    this.#stale = true;
  }

  #takes(node: TreeNode): boolean {
    if (!this.filtered) return true;
    if (!this.#takesState(node)) return false;
    if (this.#words.length === 0) return true;
    const name = `${node.suite} ${node.name}`.toLowerCase();
    return this.#words.every((word) => name.includes(word));
  }

  #takesState(node: TreeNode): boolean {
    const only = this.#filter.only;
    if (only === "all") return true;
    if (only === "flaky") return node.flaky;
    // A suite is not running or skipped as a test is; a broken one is a failure of its own.
    if (node.kind === "suite" && only !== "failed") return false;
    if (node.kind === "suite" && node.status !== Status.ERRORED) return false;
    return bucketOf(node.status) === only;
  }
}

function labelOf(name: string, parent: TreeNode): string {
  const prefix = `${parent.name}/`;
  return parent.kind === "test" && name.startsWith(prefix) && name.length > prefix.length
    ? name.slice(prefix.length)
    : name;
}

function isWithin(node: TreeNode, root: TreeNode): boolean {
  for (let at: TreeNode | undefined = node; at !== undefined; at = at.parent) if (at === root) return true;
  return false;
}

function addShown(node: TreeNode, count: number): void {
  for (let at: TreeNode | undefined = node; at !== undefined; at = at.parent) at.shown += count;
}

function forEachTally(node: TreeNode, change: (tally: Tally) => void): void {
  for (let at: TreeNode | undefined = node; at !== undefined; at = at.parent) {
    at.tally ??= emptyTally();
    change(at.tally);
    at.rev++;
  }
}

const buckets: readonly Bucket[] = ["passed", "failed", "skipped", "running", "queued"];

/** addTally adds or takes away a node and all below it. */
function addTally(tally: Tally, node: TreeNode, sign: 1 | -1): void {
  if (node.row !== -1) tally.total += sign;
  const own = bucketOf(node.status);
  if (own !== undefined) tally[own] += sign;
  if (node.flaky) tally.flaky += sign;
  const below = node.tally;
  if (below === undefined) return;
  tally.total += sign * below.total;
  tally.flaky += sign * below.flaky;
  for (const bucket of buckets) tally[bucket] += sign * below[bucket];
}

function emptyTally(): Tally {
  return { total: 0, passed: 0, failed: 0, skipped: 0, running: 0, queued: 0, flaky: 0 };
}
