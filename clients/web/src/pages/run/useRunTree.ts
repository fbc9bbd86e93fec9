import type { RunSnapshot, RunStore } from "@tcmanager/client";
import { useMemo } from "react";
import { TreeSync } from "../../tree/sync";
import type { RunTree } from "../../tree/tree";
import type { RunViewState } from "./useRunView";

/** useRunTree is the tree of a run, kept up with its snapshots and the filter. The same object until a reset. */
export function useRunTree(store: RunStore, snapshot: RunSnapshot, view: RunViewState): RunTree {
  // biome-ignore lint/correctness/useExhaustiveDependencies: another store is another run, and needs another tree
  const sync = useMemo(() => new TreeSync(), [store]);
  sync.apply(snapshot);
  sync.filter({ text: view.filter, only: view.only });
  return sync.tree;
}
