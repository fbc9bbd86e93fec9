import { type RefObject, useEffect, useRef } from "react";
import type { RunTree, TreeNode } from "../../tree/tree";
import type { RunViewState } from "./useRunView";

/** What the keys work on. */
export interface TreeKeys {
  readonly tree: RunTree;
  readonly lines: readonly TreeNode[];
  /** The line the next key goes from. */
  readonly cursor: TreeNode | undefined;
  readonly moveTo: (node: TreeNode, index: number) => void;
  readonly open: (node: TreeNode) => void;
  readonly toggle: (node: TreeNode) => void;
  readonly view: RunViewState;
  readonly filterBox: RefObject<HTMLInputElement | null>;
}

/**
 * useTreeKeys listens to the whole page, so that the keys work wherever the
 * reader looks, but not while something is typed and not with modifiers:
 * those belong to the browser.
 */
export function useTreeKeys(keys: TreeKeys): void {
  const latest = useRef(keys);
  latest.current = keys;
  useEffect(() => {
    const onKey = (event: KeyboardEvent): void => {
      if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
      const used = isTyping(event.target)
        ? keyWhileTyping(event, latest.current)
        : key(event, latest.current);
      if (used) event.preventDefault();
    };
    window.addEventListener("keydown", onKey);
    return () => window.removeEventListener("keydown", onKey);
  }, []);
}

function isTyping(target: EventTarget | null): boolean {
  return (
    target instanceof HTMLElement && target.closest("input, textarea, select, [contenteditable]") !== null
  );
}

/** In the filter box Escape and the arrow lead back to the list. */
function keyWhileTyping(event: KeyboardEvent, keys: TreeKeys): boolean {
  if (event.target !== keys.filterBox.current) return false;
  if (event.key === "Escape") {
    keys.view.setFilter("");
    keys.filterBox.current?.blur();
    return true;
  }
  if (event.key === "ArrowDown" || event.key === "Enter") {
    keys.filterBox.current?.blur();
    return move(keys, 1);
  }
  return false;
}

function key(event: KeyboardEvent, keys: TreeKeys): boolean {
  const target = event.target instanceof HTMLElement ? event.target : document.body;
  const onControl = target.closest("button, a, [role=menu]") !== null;
  // Elsewhere the arrows scroll whatever has the focus.
  if (event.key.startsWith("Arrow") && target !== document.body && target.closest("[role=tree]") === null)
    return false;
  switch (event.key) {
    case "/":
      keys.filterBox.current?.focus();
      keys.filterBox.current?.select();
      return true;
    case "j":
    case "ArrowDown":
      return move(keys, 1);
    case "k":
    case "ArrowUp":
      return move(keys, -1);
    case "f":
      keys.view.setOnly(keys.view.only === "failed" ? "all" : "failed");
      return true;
    case "Enter":
      if (onControl || keys.cursor === undefined) return false;
      keys.open(keys.cursor);
      return true;
    case "ArrowRight":
    case "l":
      return unfold(keys);
    case "ArrowLeft":
    case "h":
      return fold(keys);
    case "Escape":
      if (keys.view.suite === undefined) return false;
      keys.view.select(undefined);
      return true;
    default:
      return false;
  }
}

function move({ lines, cursor, moveTo }: TreeKeys, step: 1 | -1): boolean {
  const from = cursor === undefined ? -1 : lines.indexOf(cursor);
  const to = from === -1 ? 0 : Math.min(Math.max(from + step, 0), lines.length - 1);
  const node = lines[to];
  if (node !== undefined) moveTo(node, to);
  return true;
}

function unfold(keys: TreeKeys): boolean {
  const { cursor, tree, toggle } = keys;
  if (cursor === undefined || cursor.children.length === 0) return false;
  if (tree.isOpen(cursor)) return move(keys, 1);
  toggle(cursor);
  return true;
}

function fold({ cursor, tree, toggle, lines, moveTo }: TreeKeys): boolean {
  if (cursor === undefined) return false;
  if (cursor.children.length > 0 && tree.isOpen(cursor)) {
    toggle(cursor);
    return true;
  }
  const { parent } = cursor;
  if (parent !== undefined) moveTo(parent, lines.indexOf(parent));
  return true;
}
