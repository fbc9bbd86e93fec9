import type { RowTable, RunSnapshot } from "@tcmanager/client";
import { ResultFlag } from "@tcmanager/gen/tcmanager/v1/execution_pb";
import { RunTree, type TreeFilter } from "./tree";

/** Runs of no more tests than this are shown expanded: one can still read them at a glance. */
const expandUpTo = 500;

/**
 * TreeSync keeps a tree up with a run's snapshots. Its methods change nothing
 * when called again with the same: they may be called while rendering.
 */
export class TreeSync {
  #tree = new RunTree();
  #rows: RowTable | undefined;
  #version = 0;
  #filter: TreeFilter = { text: "", only: "all" };

  get tree(): RunTree {
    return this.#tree;
  }

  /** apply takes what changed since the snapshot before. */
  apply(snapshot: RunSnapshot): void {
    if (snapshot.rows !== this.#rows) this.#renew(snapshot.rows);
    const expected = Math.max(
      snapshot.rowsExpected,
      snapshot.run?.expectedTotal ?? 0,
      snapshot.run?.counts?.total ?? 0,
    );
    this.#tree.expandNew = expected <= expandUpTo;
    for (const suite of snapshot.suites.values()) this.#tree.setSuite(suite.name, suite.status);
    if (snapshot.rows.version === this.#version) return;
    for (const index of snapshot.rows.changesSince(this.#version)) {
      const row = snapshot.rows.at(index);
      if (row !== undefined)
        this.#tree.upsert(index, { ...pick(row), flaky: row.flags.includes(ResultFlag.FLAKY) });
    }
    this.#version = snapshot.rows.version;
  }

  /** filter shows only what the filter takes. */
  filter(filter: TreeFilter): void {
    if (filter.text === this.#filter.text && filter.only === this.#filter.only) return;
    this.#filter = filter;
    this.#tree.setFilter(filter);
  }

  #renew(rows: RowTable): void {
    this.#rows = rows;
    this.#version = -1;
    this.#tree = new RunTree();
    this.#tree.setFilter(this.#filter);
  }
}

function pick({ suite, name, parent, status }: NonNullable<ReturnType<RowTable["at"]>>) {
  return { suite, name, parent, status };
}
