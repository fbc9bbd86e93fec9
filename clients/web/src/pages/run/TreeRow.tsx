import type { Row } from "@tcmanager/client";
import { type MouseEvent, memo } from "react";
import { cx } from "../../components/cx";
import { Icon } from "../../components/icon/Icon";
import { formatCount, formatDuration } from "../../format/duration";
import { Badges } from "../../status/Badges";
import { StatusIcon } from "../../status/StatusIcon";
import { lookOf, type Tone } from "../../status/status";
import { testids } from "../../testids";
import type { Tally, TreeNode } from "../../tree/tree";
import styles from "./Tree.module.css";

interface TreeRowProps {
  readonly node: TreeNode;
  /** The node's rev: it is changed in place, and this tells that it was. */
  readonly rev: number;
  readonly row: Row | undefined;
  /** How long it took; 0 while it is not over. */
  readonly durationMs: number;
  /** Pixels from the top of the list. */
  readonly top: number;
  readonly open: boolean;
  readonly selected: boolean;
  readonly cursor: boolean;
  readonly onOpen: (node: TreeNode) => void;
  readonly onToggle: (node: TreeNode) => void;
}

/** rowDomId is the id of a line's element. */
export function rowDomId(node: TreeNode): string {
  return `test-${node.id}`;
}

/** A line of the tree. */
export const TreeRow = memo(function TreeRow({
  node,
  row,
  durationMs,
  top,
  open,
  selected,
  cursor,
  onOpen,
  onToggle,
}: TreeRowProps) {
  const tone = toneOf(node);
  const level = levelOf(node);
  const hasChildren = node.children.length > 0;
  const toggle = (event: MouseEvent): void => {
    event.stopPropagation();
    onToggle(node);
  };
  return (
    // biome-ignore lint/a11y/useKeyWithClickEvents: keys go to the tree, which knows the line they mean
    // biome-ignore lint/a11y/useFocusableInteractive: the tree has the focus, and names the line it is on
    <div
      id={rowDomId(node)}
      role="treeitem"
      className={cx(styles.row, node.kind === "suite" && styles.suiteRow, cursor && styles.cursor)}
      style={{ transform: `translateY(${top}px)`, paddingLeft: 4 + (level - 1) * 18 }}
      aria-level={level}
      aria-selected={selected}
      aria-expanded={hasChildren ? open : undefined}
      data-testid={testids.testRow}
      data-suite={node.suite}
      data-test={node.name}
      data-status={tone}
      onClick={() => onOpen(node)}
      onDoubleClick={toggle}
    >
      <span className={cx(styles.twist, open && styles.open)} onClick={toggle} aria-hidden="true">
        {hasChildren && <Icon name="chevron" size={12} />}
      </span>
      <StatusIcon tone={tone} size={15} />
      <span className="visually-hidden">{wordOf(node)}: </span>
      <span className={styles.label} title={node.name || node.suite}>
        {node.label}
      </span>
      {row !== undefined && row.flags.length > 0 && <Badges flags={row.flags} />}
      {node.tally === undefined ? <span className={styles.spacer} /> : <TallyMarks tally={node.tally} />}
      <span className={styles.time}>{durationMs > 0 ? formatDuration(durationMs) : ""}</span>
    </div>
  );
});

/** A suite is shown by what is in it until it ends itself. */
function toneOf(node: TreeNode): Tone {
  const own = lookOf(node.status).tone;
  if (own !== "unknown" && own !== "running") return own === "passed" && node.flaky ? "flaky" : own;
  if (node.tally === undefined || node.kind === "test") return own;
  if (node.tally.failed > 0 && own === "unknown") return "failed";
  return own;
}

function wordOf(node: TreeNode): string {
  return node.flaky ? "Flaky" : lookOf(node.status).word;
}

function levelOf(node: TreeNode): number {
  let level = 1;
  for (let above = node.parent; above !== undefined; above = above.parent) level++;
  return level;
}

function TallyMarks({ tally }: { readonly tally: Tally }) {
  const words = [
    tally.failed > 0 && `${tally.failed} failed`,
    tally.running > 0 && `${tally.running} running`,
    tally.flaky > 0 && `${tally.flaky} flaky`,
    tally.skipped > 0 && `${tally.skipped} skipped`,
    `${tally.passed} passed of ${tally.total}`,
  ].filter((word) => word !== false);
  return (
    <span className={styles.tally} title={words.join(", ")}>
      {tally.failed > 0 && <Mark tone="failed" count={tally.failed} className={styles.bad} />}
      {tally.running > 0 && <Mark tone="running" count={tally.running} className={styles.run} />}
      {tally.flaky > 0 && <Mark tone="flaky" count={tally.flaky} className={styles.flaky} />}
      {tally.skipped > 0 && <Mark tone="skipped" count={tally.skipped} className={undefined} />}
      {tally.passed > 0 && <Mark tone="passed" count={tally.passed} className={undefined} />}
    </span>
  );
}

interface MarkProps {
  readonly tone: Tone;
  readonly count: number;
  readonly className: string | undefined;
}

function Mark({ tone, count, className }: MarkProps) {
  return (
    <span className={className}>
      <StatusIcon tone={tone} size={11} />
      {formatCount(count)}
      <span className="visually-hidden"> {tone}</span>
    </span>
  );
}
