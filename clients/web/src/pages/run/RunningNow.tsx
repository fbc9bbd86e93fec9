import type { Row } from "@tcmanager/client";
import { type Run, Status } from "@tcmanager/gen/tcmanager/v1/execution_pb";
import { memo } from "react";
import { Panel } from "../../components/Panel";
import { formatClock } from "../../format/duration";
import { useNow } from "../../live/now";
import { lostSince } from "../../run/state";
import { StatusIcon } from "../../status/StatusIcon";
import { lookOf } from "../../status/status";
import { testids } from "../../testids";
import styles from "./Run.module.css";
import type { RunViewState } from "./useRunView";

/** More are only counted: a list that changes all the time is not read to its end. */
const listed = 30;

/** From here on a test stands out: nearly all tests are over by then. */
const longMs = 10_000;

interface RunningNowProps {
  readonly running: readonly Row[];
  readonly run: Run;
  readonly view: RunViewState;
}

/** The tests in flight, longest first, with live clocks; those that wait for a parallel slot come last. */
export const RunningNow = memo(function RunningNow({ running, run, view }: RunningNowProps) {
  const active = running.filter(({ status }) => status === Status.RUNNING);
  const paused = running.filter(({ status }) => status === Status.PAUSED);
  // With every runner lost nothing is known to run: the clocks stand at that moment.
  const lost = lostSince(run.shards);
  const now = useNow(500, lost === undefined);
  return (
    <Panel title="Running now" count={countOf(active.length, paused.length)} className={styles.runningPanel}>
      {running.length === 0 && <p className={styles.quiet}>No test is in flight at this moment.</p>}
      <ul className={styles.list}>
        {[...active, ...paused].slice(0, listed).map((row) => (
          <RunningTest key={`${row.suite} ${row.name}`} row={row} nowMs={lost ?? now} view={view} />
        ))}
      </ul>
      {running.length > listed && <p className={styles.quiet}>and {running.length - listed} more</p>}
    </Panel>
  );
});

function countOf(active: number, paused: number): string {
  return paused === 0 ? String(active) : `${active}, and ${paused} paused`;
}

interface RunningTestProps {
  readonly row: Row;
  readonly nowMs: number;
  readonly view: RunViewState;
}

function RunningTest({ row, nowMs, view }: RunningTestProps) {
  const look = lookOf(row.status);
  const elapsed = row.startedAtMs === 0 ? 0 : nowMs - row.startedAtMs;
  return (
    <li>
      <button
        type="button"
        className={styles.running}
        data-testid={testids.runningTest}
        data-suite={row.suite}
        data-test={row.name}
        onClick={() => view.select(row.suite, row.name)}
      >
        <StatusIcon tone={look.tone} size={14} />
        <span className={styles.line}>
          <b>{row.name}</b>
          <span className={styles.suite}>{row.suite}</span>
        </span>
        {row.status === Status.PAUSED ? (
          <time>paused</time>
        ) : (
          <time data-long={elapsed > longMs}>{formatClock(elapsed)}</time>
        )}
      </button>
    </li>
  );
}
