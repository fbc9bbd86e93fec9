import { useVirtualizer } from "@tanstack/react-virtual";
import type { RowTable } from "@tcmanager/client";
import type { Suite } from "@tcmanager/gen/tcmanager/v1/execution_pb";
import { type RefObject, useCallback, useEffect, useMemo, useRef, useState } from "react";
import type { RunTree, TreeNode } from "../../tree/tree";
import styles from "./Tree.module.css";
import { rowDomId, TreeRow } from "./TreeRow";
import type { RunViewState } from "./useRunView";
import { useTick } from "./useTick";
import { useTreeKeys } from "./useTreeKeys";

const rowHeight = 28;

interface TreeRowsProps {
  readonly tree: RunTree;
  readonly lines: readonly TreeNode[];
  readonly rows: RowTable;
  readonly suites: ReadonlyMap<string, Suite>;
  readonly view: RunViewState;
  readonly filterBox: RefObject<HTMLInputElement | null>;
}

/** The lines of the tree that are in sight. */
export function TreeRows({ tree, lines, rows, suites, view, filterBox }: TreeRowsProps) {
  const scroll = useRef<HTMLDivElement>(null);
  const [cursor, setCursor] = useState<TreeNode>();
  const redraw = useTick();
  const virtual = useVirtualizer({
    count: lines.length,
    getScrollElement: () => scroll.current,
    estimateSize: () => rowHeight,
    getItemKey: (index) => lines[index]?.id ?? index,
    overscan: 12,
  });
  const selected = view.suite === undefined ? undefined : tree.find(view.suite, view.test);
  const toggle = useCallback(
    (node: TreeNode) => {
      tree.setOpen(node, !tree.isOpen(node));
      redraw();
    },
    [tree, redraw],
  );
  const open = useCallback(
    (node: TreeNode) => {
      setCursor(node);
      view.select(node.suite, node.kind === "suite" ? undefined : node.name);
    },
    [view],
  );
  const moveTo = (node: TreeNode, index: number): void => {
    setCursor(node);
    virtual.scrollToIndex(index, { align: "auto" });
  };
  useTreeKeys({ tree, lines, cursor: cursor ?? selected, moveTo, open, toggle, view, filterBox });
  useReveal(tree, selected, (index) => virtual.scrollToIndex(index, { align: "center" }), setCursor);
  const items = virtual.getVirtualItems();
  const inSight = cursor !== undefined && items.some((item) => lines[item.index] === cursor);
  return (
    <div
      ref={scroll}
      className={styles.scroll}
      role="tree"
      aria-label="Tests"
      tabIndex={0}
      aria-activedescendant={inSight && cursor !== undefined ? rowDomId(cursor) : undefined}
    >
      <div role="presentation" style={{ height: virtual.getTotalSize(), position: "relative" }}>
        {items.map((item) => {
          const node = lines[item.index];
          if (node === undefined) return null;
          const row = rows.at(node.row);
          return (
            <TreeRow
              key={item.key}
              node={node}
              rev={node.rev}
              row={row}
              durationMs={(node.kind === "suite" ? suites.get(node.suite) : row)?.durationMs ?? 0}
              top={item.start}
              open={tree.isOpen(node)}
              selected={node === selected}
              cursor={node === cursor}
              onOpen={open}
              onToggle={toggle}
            />
          );
        })}
      </div>
    </div>
  );
}

/** Shows the line that an address names, once, as soon as it is known. */
function useReveal(
  tree: RunTree,
  selected: TreeNode | undefined,
  scrollTo: (index: number) => void,
  setCursor: (node: TreeNode) => void,
): void {
  const latest = useRef(scrollTo);
  latest.current = scrollTo;
  const [first] = useMemo(() => [{ done: false }], []);
  useEffect(() => {
    if (selected === undefined || first.done) return;
    first.done = true;
    tree.reveal(selected);
    setCursor(selected);
    const index = tree.visible().indexOf(selected);
    if (index >= 0) requestAnimationFrame(() => latest.current(index));
  }, [tree, selected, first, setCursor]);
}
