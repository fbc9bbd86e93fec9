import type { Run } from "@tcmanager/gen/tcmanager/v1/execution_pb";
import { memo } from "react";
import { Icon } from "../../components/icon/Icon";
import { Empty } from "../../components/State";
import { formatAgo, formatClock, formatCount, formatDuration, formatMoment } from "../../format/duration";
import { msOf } from "../../format/timestamp";
import { useNow } from "../../live/now";
import { Link } from "../../router/Link";
import { formatRoute } from "../../router/route";
import { ProgressBar } from "../../run/ProgressBar";
import { clockOf, isLive, lookOfRun, lostSince, type Progress, progressOf } from "../../run/state";
import { StatusIcon } from "../../status/StatusIcon";
import { testids } from "../../testids";
import styles from "./Project.module.css";

/** A project's runs, newest first, live. */
export function RunList({ runs, project }: { readonly runs: readonly Run[]; readonly project: string }) {
  if (runs.length === 0) {
    return (
      <Empty icon="terminal" title="No runs yet">
        <p>Pipe a test run into the server, and it appears here as it runs:</p>
        <p>
          <code>go test -json ./... | tcm stream --project {project}</code>
        </p>
      </Empty>
    );
  }
  return (
    <ul className={styles.runs}>
      {runs.map((run) => (
        <li key={run.id}>
          <RunRow run={run} />
        </li>
      ))}
    </ul>
  );
}

const RunRow = memo(function RunRow({ run }: { readonly run: Run }) {
  const look = lookOfRun(run);
  const progress = progressOf(run.counts, run.expectedTotal, isLive(run));
  return (
    <Link
      href={formatRoute({ page: "run", run: run.id })}
      className={styles.run}
      data-testid={testids.runRow}
      data-run={run.id}
      data-state={look.state}
    >
      <StatusIcon tone={look.tone} size={18} />
      <div>
        <div className={styles.title}>
          <b>
            {look.word} <span className="tabular">#{run.number}</span>
          </b>
          <span>{run.info?.name}</span>
        </div>
        <RunMeta run={run} />
      </div>
      <div className={styles.bar}>
        <ProgressBar progress={progress} thin />
        <Numbers progress={progress} />
      </div>
      <RunTime run={run} />
    </Link>
  );
});

function RunMeta({ run }: { readonly run: Run }) {
  const { branch = "", commit = "" } = run.info ?? {};
  return (
    <div className={styles.meta}>
      {branch !== "" && (
        <span>
          <Icon name="branch" size={13} /> {branch}
        </span>
      )}
      {commit !== "" && (
        <span className="mono">
          <Icon name="commit" size={13} /> {commit.slice(0, 8)}
        </span>
      )}
      {run.startedBy !== undefined && <span>{run.startedBy.name}</span>}
      {isLive(run) && lostSince(run.shards) !== undefined && (
        <span className={styles.lost}>
          <Icon name="offline" size={13} /> runner lost
        </span>
      )}
    </div>
  );
}

function Numbers({ progress }: { readonly progress: Progress }) {
  return (
    <div className={styles.numbers} aria-hidden="true">
      {progress.failed > 0 && <b>{formatCount(progress.failed)} failed</b>}
      <span>{formatCount(progress.passed + progress.flaky)} passed</span>
      {progress.skipped > 0 && <span>{formatCount(progress.skipped)} skipped</span>}
    </div>
  );
}

function RunTime({ run }: { readonly run: Run }) {
  const live = isLive(run);
  const now = useNow(live ? 1000 : 10_000);
  const clock = clockOf(run, now);
  const started = msOf(run.startedAt);
  return (
    <span className={styles.time}>
      {clock.ticking ? formatClock(clock.elapsedMs) : formatDuration(clock.elapsedMs)}
      {started !== undefined && <small title={formatMoment(started)}>{formatAgo(started, now)}</small>}
    </span>
  );
}
