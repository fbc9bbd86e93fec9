import { useVirtualizer } from "@tanstack/react-virtual";
import { type RefObject, useEffect, useLayoutEffect, useRef } from "react";
import { AnsiLine } from "../ansi/AnsiLine";
import type { Line } from "../ansi/ansi";
import styles from "./Output.module.css";

const lineHeight = 19;

interface OutputLinesProps {
  readonly lines: readonly Line[];
  /** Grows with each change to lines. */
  readonly version: number;
  readonly live: boolean;
  readonly found: readonly number[];
  /** The line to show, of those found. */
  readonly current: number | undefined;
}

/** Lines of output. While live the end stays in sight, unless the reader scrolled away from it. */
export function OutputLines({ lines, version, live, found, current }: OutputLinesProps) {
  const scroll = useRef<HTMLDivElement>(null);
  // The output nearly always ends with a new line: an empty one after it says nothing.
  const count = lines.at(-1)?.spans.length === 0 ? lines.length - 1 : lines.length;
  const virtual = useVirtualizer({
    count,
    getScrollElement: () => scroll.current,
    estimateSize: () => lineHeight,
    overscan: 20,
  });
  useFollow(scroll, live, version);
  useEffect(() => {
    if (current !== undefined) virtual.scrollToIndex(current, { align: "center" });
  }, [current, virtual]);
  const hits = new Set(found);
  return (
    // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable to be scrolled by keyboard
    <div ref={scroll} className={styles.scroll} tabIndex={0} role="log" aria-live="off" aria-label="Output">
      <div style={{ height: virtual.getTotalSize(), position: "relative" }}>
        {virtual.getVirtualItems().map((item) => {
          const line = lines[item.index];
          if (line === undefined) return null;
          return (
            <div
              key={item.key}
              className={styles.line}
              style={{ transform: `translateY(${item.start}px)` }}
              data-found={hits.has(item.index)}
              data-current={item.index === current}
            >
              <span className={styles.number} aria-hidden="true">
                {line.continued ? "" : item.index + 1}
              </span>
              <span className={styles.text}>
                <AnsiLine spans={line.spans} />
              </span>
            </div>
          );
        })}
      </div>
    </div>
  );
}

function useFollow(scroll: RefObject<HTMLDivElement | null>, live: boolean, version: number): void {
  const atEnd = useRef(true);
  useEffect(() => {
    const element = scroll.current;
    if (element === null) return;
    const look = (): void => {
      atEnd.current = element.scrollHeight - element.scrollTop - element.clientHeight < 2 * lineHeight;
    };
    element.addEventListener("scroll", look, { passive: true });
    return () => element.removeEventListener("scroll", look);
  }, [scroll]);
  // biome-ignore lint/correctness/useExhaustiveDependencies: a new version is what there is to follow
  useLayoutEffect(() => {
    const element = scroll.current;
    if (live && atEnd.current && element !== null) element.scrollTop = element.scrollHeight;
  }, [scroll, live, version]);
}
