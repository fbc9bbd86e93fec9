import { useVirtualizer } from "@tanstack/react-virtual";
import type { Row } from "@tcmanager/client";
import { Status, type Suite } from "@tcmanager/gen/tcmanager/v1/execution_pb";
import { memo, useMemo, useRef } from "react";
import { Panel } from "../../components/Panel";
import { formatCount } from "../../format/duration";
import { Badges } from "../../status/Badges";
import { StatusIcon } from "../../status/StatusIcon";
import { lookOf } from "../../status/status";
import { testids } from "../../testids";
import styles from "./Run.module.css";
import type { RunViewState } from "./useRunView";

/** What did not pass: a test, or a suite that broke without a failing test. */
type Failed = Pick<Row, "suite" | "name" | "status" | "message" | "file" | "line" | "flags">;

/** More are only counted: nobody reads so many lines, and the tree shows all that failed. */
const listed = 500;

interface FailuresProps {
  /** Newest first. */
  readonly failures: readonly Row[];
  readonly suites: ReadonlyMap<string, Suite>;
  readonly live: boolean;
  readonly view: RunViewState;
}

/** What did not pass, newest first, from the first one on. */
export function Failures({ failures, suites, live, view }: FailuresProps) {
  const broken = useMemo(() => brokenSuites(suites), [suites]);
  const shown = useMemo(() => [...broken, ...failures.slice(0, listed)], [broken, failures]);
  const count = broken.length + failures.length;
  if (count === 0) return null;
  return (
    <Panel
      title="Failures"
      count={`${formatCount(count)}${live ? ", newest first" : ""}`}
      className={styles.failures}
    >
      <FailureList failures={shown} view={view} />
      {count > shown.length && (
        <button type="button" className={styles.more} onClick={() => view.setOnly("failed")}>
          and {formatCount(count - shown.length)} more: show all failed tests below
        </button>
      )}
    </Panel>
  );
}

/** A suite that broke, for example because it did not compile, has no test to show for it. */
function brokenSuites(suites: ReadonlyMap<string, Suite>): readonly Failed[] {
  const broken = [...suites.values()]
    .filter(({ status }) => status === Status.ERRORED)
    .map(({ name, status, error, flags }) => ({
      suite: name,
      name: "",
      status,
      message: error?.message ?? "",
      file: error?.file ?? "",
      line: error?.line ?? 0,
      flags,
    }));
  // The same one each time: suites change all the time, and mostly not in this.
  return broken.length === 0 ? none : broken;
}

const none: readonly Failed[] = [];

const oneLine = 34;
const twoLines = 52;

interface FailureListProps {
  readonly failures: readonly Failed[];
  readonly view: RunViewState;
}

const FailureList = memo(function FailureList({ failures, view }: FailureListProps) {
  const scroll = useRef<HTMLDivElement>(null);
  const virtual = useVirtualizer({
    count: failures.length,
    getScrollElement: () => scroll.current,
    estimateSize: (index) => (failures[index]?.message === "" ? oneLine : twoLines),
    getItemKey: (index) => `${failures[index]?.suite} ${failures[index]?.name}`,
    overscan: 8,
  });
  const items = virtual.getVirtualItems();
  return (
    <div ref={scroll} className={styles.list}>
      <ul style={{ height: virtual.getTotalSize(), position: "relative" }}>
        {items.map((item) => {
          const failed = failures[item.index];
          if (failed === undefined) return null;
          const open = view.suite === failed.suite && (view.test ?? "") === failed.name;
          return (
            <li
              key={item.key}
              style={{
                position: "absolute",
                top: 0,
                left: 0,
                right: 0,
                transform: `translateY(${item.start}px)`,
              }}
            >
              <Failure failed={failed} open={open} onSelect={view.select} />
            </li>
          );
        })}
      </ul>
    </div>
  );
});

interface FailureProps {
  readonly failed: Failed;
  readonly open: boolean;
  readonly onSelect: RunViewState["select"];
}

const Failure = memo(function Failure({ failed, open, onSelect }: FailureProps) {
  const look = lookOf(failed.status);
  const isSuite = failed.name === "";
  return (
    <button
      type="button"
      className={styles.failure}
      style={{ height: failed.message === "" ? oneLine : twoLines }}
      data-testid={testids.failure}
      data-suite={failed.suite}
      data-test={failed.name}
      data-status={look.tone}
      aria-current={open}
      onClick={() => onSelect(failed.suite, isSuite ? undefined : failed.name)}
    >
      <StatusIcon tone={look.tone} />
      <span style={{ minWidth: 0 }}>
        <span className={styles.line}>
          <span className="visually-hidden">{look.word}: </span>
          <b>{isSuite ? failed.suite : failed.name}</b>
          <Badges flags={failed.flags} />
          {!isSuite && <span className={styles.suite}>{failed.suite}</span>}
          {failed.file !== "" && (
            <span className={`${styles.place} mono`}>
              {shortPath(failed.file)}
              {failed.line > 0 && `:${failed.line}`}
            </span>
          )}
        </span>
        {failed.message !== "" && <span className={styles.message}>{failed.message}</span>}
      </span>
    </button>
  );
});

/** The end of a path: what tells files apart. */
function shortPath(path: string): string {
  return path.split(/[/\\]/).slice(-2).join("/");
}
