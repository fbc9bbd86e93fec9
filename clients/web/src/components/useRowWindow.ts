import { type RefObject, useCallback, useLayoutEffect, useMemo, useState } from "react";
import { flushSync } from "react-dom";

interface RowWindowOptions {
  /** The box that scrolls; it holds an element of the height that all rows have together. */
  readonly scroll: RefObject<HTMLElement | null>;
  /** How many rows there are. */
  readonly count: number;
  /** Pixels, of each row. */
  readonly rowHeight: number;
  /** So many rows above and below those in sight are there as well. */
  readonly overscan: number;
}

/** The rows in sight, and those around them: from first up to, not including, end. */
export interface RowWindow {
  readonly first: number;
  readonly end: number;
  /** Scrolls until a row is in sight: as little as possible, or to the middle. */
  readonly scrollTo: (index: number, align: "nearest" | "center") => void;
}

/**
 * useRowWindow says which rows of a list of equal rows are in sight. It does a
 * division where a list of unequal ones measures them all, so 200,000 rows that
 * come in a burst cost no more than 20.
 */
export function useRowWindow({ scroll, count, rowHeight, overscan }: RowWindowOptions): RowWindow {
  const [seen, setSeen] = useState<Seen>({ first: 0, rows: 0 });
  useLayoutEffect(() => {
    const box = scroll.current;
    if (box === null) return;
    const look = (): void => {
      const first = Math.floor(box.scrollTop / rowHeight);
      const rows = Math.ceil(box.clientHeight / rowHeight) + 1;
      setSeen((before) => (before.first === first && before.rows === rows ? before : { first, rows }));
    };
    look();
    // At once: whoever drags the scroll bar would see an empty box for a moment.
    const scrolled = (): void => flushSync(look);
    box.addEventListener("scroll", scrolled, { passive: true });
    const resized = new ResizeObserver(look);
    resized.observe(box);
    return () => {
      box.removeEventListener("scroll", scrolled);
      resized.disconnect();
    };
  }, [scroll, rowHeight]);

  const scrollTo = useCallback(
    (index: number, align: "nearest" | "center") => {
      const box = scroll.current;
      if (box === null) return;
      const top = index * rowHeight;
      const room = box.clientHeight - rowHeight;
      if (align === "center") box.scrollTop = top - room / 2;
      else box.scrollTop = Math.min(Math.max(box.scrollTop, top - room), top);
    },
    [scroll, rowHeight],
  );

  const { first, end } = rowsAround(seen, count, overscan);
  return useMemo(() => ({ first, end, scrollTo }), [first, end, scrollTo]);
}

/** What a box was scrolled to: its first row in sight, and how many rows fit. */
export interface Seen {
  readonly first: number;
  readonly rows: number;
}

/** rowsAround is the rows in sight and overscan more on both sides, of a list that may have become shorter since. */
export function rowsAround(
  seen: Seen,
  count: number,
  overscan: number,
): { readonly first: number; readonly end: number } {
  const top = Math.max(0, Math.min(seen.first, count - seen.rows));
  return { first: Math.max(0, top - overscan), end: Math.min(count, top + seen.rows + overscan) };
}
