import type { Presence } from "@tcmanager/gen/tcmanager/v1/collaboration_pb";
import { type Run, ShardState } from "@tcmanager/gen/tcmanager/v1/execution_pb";
import { memo } from "react";
import { Icon } from "../../components/icon/Icon";
import { formatAgo, formatClock, formatDuration, formatMoment, formatTime } from "../../format/duration";
import { msOf } from "../../format/timestamp";
import { useNow } from "../../live/now";
import { PresenceRow } from "../../people/Presence";
import { clockOf, isLive, lookOfRun, lostSince, safeLink } from "../../run/state";
import { StatusIcon } from "../../status/StatusIcon";
import { testids } from "../../testids";
import { useMe } from "../useMe";
import styles from "./Run.module.css";
import { RunProgress } from "./RunProgress";
import { Shards } from "./Shards";
import type { RunViewState } from "./useRunView";

interface RunHeaderProps {
  readonly run: Run;
  readonly presence: readonly Presence[];
  /** How many people are here, those in presence among them. */
  readonly here: number;
  readonly view: RunViewState;
}

/** What a run is, how it stands, and how far it is. */
export const RunHeader = memo(function RunHeader({ run, presence, here, view }: RunHeaderProps) {
  const look = lookOfRun(run);
  const me = useMe();
  return (
    <>
      <header className={styles.header}>
        <div className={styles.top}>
          <span className={styles.pill} data-testid={testids.runState} data-state={look.state} role="status">
            <StatusIcon tone={look.tone} size={18} />
            {look.word}
            {look.state === "interrupted" && <ShardTally run={run} />}
          </span>
          <h1 className={styles.name}>
            <span>#{run.number}</span>
            {run.info?.name || run.key}
          </h1>
          <div className={styles.right}>
            <PresenceRow presence={presence} count={here} me={me} />
            <RunClock run={run} />
          </div>
        </div>
        <Facts run={run} />
        <RunProgress run={run} view={view} />
      </header>
      <Lost run={run} />
      {run.resultsTrimmed && (
        <div className={styles.trimmed} role="status" data-testid={testids.resultsTrimmed}>
          <Icon name="clock" />
          <span>
            This server no longer keeps what tests of this run printed, nor the results of those that passed.
            The counts are still of all tests.
          </span>
        </div>
      )}
    </>
  );
});

function ShardTally({ run }: { readonly run: Run }) {
  const finished = run.shards.filter(({ state }) => state === ShardState.FINISHED).length;
  return (
    <>
      , {finished} of {Math.max(run.expectedShards, run.shards.length)} shards
    </>
  );
}

function RunClock({ run }: { readonly run: Run }) {
  const now = useNow(1000, isLive(run));
  const clock = clockOf(run, now);
  return (
    <span className={styles.clock} data-testid={testids.runClock} data-ticking={clock.ticking}>
      {isLive(run) ? formatClock(clock.elapsedMs) : formatDuration(clock.elapsedMs)}
    </span>
  );
}

function Facts({ run }: { readonly run: Run }) {
  const { branch = "", commit = "", ciUrl = "" } = run.info ?? {};
  const link = safeLink(ciUrl);
  return (
    <div className={styles.facts}>
      {branch !== "" && (
        <span title="Branch">
          <Icon name="branch" size={14} /> {branch}
        </span>
      )}
      {commit !== "" && (
        <span title={`Commit ${commit}`} className="mono">
          <Icon name="commit" size={14} /> {commit.slice(0, 10)}
        </span>
      )}
      <Started run={run} />
      {link !== undefined && (
        <a href={link} target="_blank" rel="noreferrer noopener">
          <Icon name="external" size={14} /> CI job
        </a>
      )}
      <Shards shards={run.shards} />
    </div>
  );
}

function Started({ run }: { readonly run: Run }) {
  const now = useNow(10_000);
  const started = msOf(run.startedAt);
  if (started === undefined) return null;
  return (
    <span title={formatMoment(started)}>
      <Icon name="clock" size={14} />
      {formatAgo(started, now)}
      {run.startedBy !== undefined && ` by ${run.startedBy.name}`}
    </span>
  );
}

/** Says that nobody reports any more, and what will become of the run. */
function Lost({ run }: { readonly run: Run }) {
  const lost = isLive(run) ? lostSince(run.shards) : undefined;
  if (lost === undefined) return null;
  return (
    <div className={styles.lost} role="status">
      <Icon name="offline" />
      <span>
        No runner has been connected since {formatTime(lost)}. The run goes on when one comes back; otherwise
        it will be ended as aborted.
      </span>
    </div>
  );
}
