import type { Counts, Run } from "@tcmanager/gen/tcmanager/v1/execution_pb";
import { formatClock, formatCount } from "../../format/duration";
import { useNow } from "../../live/now";
import type { Only } from "../../router/route";
import { doneText, ProgressBar } from "../../run/ProgressBar";
import { clockOf, isLive, type Progress, progressOf, remainingMs } from "../../run/state";
import { StatusIcon } from "../../status/StatusIcon";
import type { Tone } from "../../status/status";
import { countId } from "../../testids";
import styles from "./Run.module.css";
import type { RunViewState } from "./useRunView";

interface Shown {
  readonly name: string;
  readonly tone: Tone;
  readonly value: (counts: Counts) => number;
  /** Whether it is shown at zero. */
  readonly always?: boolean;
  /** What a click shows in the tree. */
  readonly only?: Only;
}

const shown: readonly Shown[] = [
  { name: "passed", tone: "passed", value: (counts) => counts.passed, always: true },
  { name: "failed", tone: "failed", value: (counts) => counts.failed, always: true, only: "failed" },
  { name: "errored", tone: "errored", value: (counts) => counts.errored, only: "failed" },
  { name: "timed out", tone: "timed-out", value: (counts) => counts.timedOut, only: "failed" },
  { name: "aborted", tone: "aborted", value: (counts) => counts.aborted, only: "failed" },
  { name: "flaky", tone: "flaky", value: (counts) => counts.flaky, only: "flaky" },
  { name: "skipped", tone: "skipped", value: (counts) => counts.skipped, always: true, only: "skipped" },
  { name: "blocked", tone: "blocked", value: (counts) => counts.blocked, only: "skipped" },
  { name: "running", tone: "running", value: (counts) => counts.running, only: "running" },
  { name: "paused", tone: "paused", value: (counts) => counts.paused, only: "running" },
  { name: "queued", tone: "queued", value: (counts) => counts.queued },
];

/** How far a run is: the bar, what it is made of, and how long it may still take. */
export function RunProgress({ run, view }: { readonly run: Run; readonly view: RunViewState }) {
  const progress = progressOf(run.counts, run.expectedTotal, isLive(run));
  return (
    <div className={styles.progress}>
      <ProgressBar progress={progress} />
      <div className={styles.legend}>
        {shown.map((each) => (
          <Count key={each.name} shown={each} counts={run.counts} view={view} />
        ))}
        <SuiteCount run={run} />
        <Done run={run} progress={progress} />
      </div>
    </div>
  );
}

interface CountProps {
  readonly shown: Shown;
  readonly counts: Counts | undefined;
  readonly view: RunViewState;
}

function Count({ shown: { name, tone, value, always = false, only }, counts, view }: CountProps) {
  const number = counts === undefined ? 0 : value(counts);
  if (number === 0 && !always) return null;
  const content = (
    <>
      <StatusIcon tone={tone} size={14} />
      <b data-testid={countId(name.replace(" ", "-"))} data-value={number}>
        {formatCount(number)}
      </b>
      {name}
    </>
  );
  if (only === undefined || number === 0) return <span className={styles.count}>{content}</span>;
  const on = view.only === only;
  return (
    <button
      type="button"
      className={styles.count}
      aria-pressed={on}
      title={on ? "Show all tests again" : `Show only ${only} tests`}
      onClick={() => view.setOnly(on ? "all" : only)}
    >
      {content}
    </button>
  );
}

function SuiteCount({ run }: { readonly run: Run }) {
  const total = run.suites?.total ?? 0;
  const errored = run.suites?.errored ?? 0;
  const word = run.info?.source === "go" ? "package" : "suite";
  if (total === 0) return null;
  return (
    <span className={styles.count}>
      in{" "}
      <b data-testid={countId("suites")} data-value={total}>
        {formatCount(total)}
      </b>{" "}
      {total === 1 ? word : `${word}s`}
      {errored > 0 && (
        <>
          ,{" "}
          <b data-testid={countId("suites-errored")} data-value={errored}>
            {formatCount(errored)}
          </b>{" "}
          errored
        </>
      )}
    </span>
  );
}

function Done({ run, progress }: { readonly run: Run; readonly progress: Progress }) {
  const now = useNow(1000, isLive(run));
  const left = remainingMs(progress, clockOf(run, now), run.expectedTotal);
  return (
    <span className={styles.done} data-testid={countId("done")}>
      {doneText(progress)}
      {left !== undefined && `, about ${formatClock(left)} left`}
      <span className="visually-hidden" data-testid={countId("total")} data-value={run.counts?.total ?? 0}>
        {formatCount(run.counts?.total ?? 0)}
      </span>
    </span>
  );
}
