import { useVirtualizer } from "@tanstack/react-virtual";
import type { RowTable } from "@tcmanager/client";
import type { Suite } from "@tcmanager/gen/tcmanager/v1/execution_pb";
import { type RefObject, useCallback, useEffect, useRef, useState } from "react";
import type { RunTree, TreeNode } from "../../tree/tree";
import styles from "./Tree.module.css";
import { rowDomId, TreeRow } from "./TreeRow";
import type { RunViewState } from "./useRunView";
import { useTreeKeys } from "./useTreeKeys";

const rowHeight = 28;

interface TreeRowsProps {
  readonly tree: RunTree;
  readonly lines: readonly TreeNode[];
  readonly rows: RowTable;
  readonly suites: ReadonlyMap<string, Suite>;
  readonly view: RunViewState;
  readonly filterBox: RefObject<HTMLInputElement | null>;
  /** Called after lines were shown or hidden from here: the tree is kept outside React. */
  readonly onChange: () => void;
}

/** The lines of the tree that are in sight. */
export function TreeRows({ tree, lines, rows, suites, view, filterBox, onChange }: TreeRowsProps) {
  const [cursor, setCursor] = useState<TreeNode>();
  const { scroll, virtual } = useVirtualLines(lines);
  const selected = view.suite === undefined ? undefined : tree.find(view.suite, view.test);
  const toggle = useCallback(
    (node: TreeNode) => {
      tree.setOpen(node, !tree.isOpen(node));
      onChange();
    },
    [tree, onChange],
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
  useReveal(tree, selected, (node, index) => {
    setCursor(node);
    onChange();
    requestAnimationFrame(() => virtual.scrollToIndex(index, { align: "center" }));
  });
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

function useVirtualLines(lines: readonly TreeNode[]) {
  const scroll = useRef<HTMLDivElement>(null);
  const virtual = useVirtualizer({
    count: lines.length,
    getScrollElement: () => scroll.current,
    estimateSize: () => rowHeight,
    getItemKey: (index) => lines[index]?.id ?? index,
    overscan: 12,
  });
  return { scroll, virtual };
}

/** Shows the line that an address names, once, as soon as it is known; show is told where it is then. */
function useReveal(
  tree: RunTree,
  selected: TreeNode | undefined,
  show: (node: TreeNode, index: number) => void,
): void {
  const latest = useRef(show);
  latest.current = show;
  const done = useRef(false);
  useEffect(() => {
    if (selected === undefined || done.current) return;
    done.current = true;
    tree.reveal(selected);
    latest.current(selected, tree.visible().indexOf(selected));
  }, [tree, selected]);
}
