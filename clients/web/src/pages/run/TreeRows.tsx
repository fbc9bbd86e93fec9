import type { RowTable } from "@tcmanager/client";
import type { Suite } from "@tcmanager/gen/tcmanager/v1/execution_pb";
import { type RefObject, useCallback, useEffect, useRef, useState } from "react";
import { useRowWindow } from "../../components/useRowWindow";
import type { RunTree, TreeNode } from "../../tree/tree";
import styles from "./Tree.module.css";
import { rowDomId, TreeRow } from "./TreeRow";
import type { RunViewState } from "./useRunView";
import { useTreeKeys } from "./useTreeKeys";

const rowHeight = 28;
/** So many lines around those in sight are there as well, so that scrolling doesn't wait. */
const overscan = 12;

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
  const scroll = useRef<HTMLDivElement>(null);
  const { first, end, scrollTo } = useRowWindow({ scroll, count: lines.length, rowHeight, overscan });
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
    scrollTo(index, "nearest");
  };
  useTreeKeys({ tree, lines, cursor: cursor ?? selected, moveTo, open, toggle, view, filterBox });
  useReveal(tree, selected, (node, index) => {
    setCursor(node);
    onChange();
    requestAnimationFrame(() => scrollTo(index, "center"));
  });
  const inSight = lines.slice(first, end);
  const isCursorInSight = cursor !== undefined && inSight.includes(cursor);
  return (
    <div
      ref={scroll}
      className={styles.scroll}
      role="tree"
      aria-label="Tests"
      tabIndex={0}
      aria-activedescendant={isCursorInSight ? rowDomId(cursor) : undefined}
    >
      <div role="presentation" style={{ height: lines.length * rowHeight, position: "relative" }}>
        {inSight.map((node, at) => {
          const row = rows.at(node.row);
          return (
            <TreeRow
              key={node.id}
              node={node}
              rev={node.rev}
              row={row}
              durationMs={(node.kind === "suite" ? suites.get(node.suite) : row)?.durationMs ?? 0}
              top={(first + at) * rowHeight}
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
