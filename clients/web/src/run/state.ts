import {
  type Counts,
  EndReason,
  type Run,
  RunState,
  type Shard,
  ShardState,
} from "@tcmanager/gen/tcmanager/v1/execution_pb";
import { msOf } from "../format/timestamp";
import type { Tone } from "../status/status";

/** The states a run is shown in: those it is stored in, with "failing" for a run that goes on with a failure. */
export type ShownState =
  | "planned"
  | "running"
  | "failing"
  | "passed"
  | "failed"
  | "cancelled"
  | "timed-out"
  | "interrupted"
  | "aborted";

/** How a run's state is written and shown. */
export interface RunLook {
  readonly state: ShownState;
  readonly tone: Tone;
  readonly word: string;
}

const looks: Readonly<Record<ShownState, RunLook>> = {
  planned: { state: "planned", tone: "queued", word: "Planned" },
  running: { state: "running", tone: "running", word: "Running" },
  failing: { state: "failing", tone: "failed", word: "Failing" },
  passed: { state: "passed", tone: "passed", word: "Passed" },
  failed: { state: "failed", tone: "failed", word: "Failed" },
  cancelled: { state: "cancelled", tone: "blocked", word: "Cancelled" },
  "timed-out": { state: "timed-out", tone: "timed-out", word: "Timed out" },
  interrupted: { state: "interrupted", tone: "errored", word: "Interrupted" },
  aborted: { state: "aborted", tone: "aborted", word: "Aborted" },
};

/** lookOfRun says how a run is shown. */
export function lookOfRun(run: Run): RunLook {
  return looks[shownState(run)];
}

function shownState(run: Run): ShownState {
  if (run.state === RunState.ENDED) return endedState(run.endReason);
  if (run.state === RunState.RUNNING) return hasFailure(run) ? "failing" : "running";
  return "planned";
}

function endedState(reason: EndReason): ShownState {
  switch (reason) {
    case EndReason.PASSED:
      return "passed";
    case EndReason.FAILED:
      return "failed";
    case EndReason.CANCELLED:
      return "cancelled";
    case EndReason.TIMED_OUT:
      return "timed-out";
    case EndReason.INTERRUPTED:
      return "interrupted";
    default:
      return "aborted";
  }
}

function hasFailure(run: Run): boolean {
  return failures(run.counts) > 0 || failures(run.suites) > 0;
}

/** failures is how many did not end well. */
export function failures(counts: Counts | undefined): number {
  return counts === undefined ? 0 : counts.failed + counts.errored + counts.timedOut + counts.aborted;
}

/** isLive says whether more may still come. */
export function isLive(run: Run): boolean {
  return run.state !== RunState.ENDED;
}

/** A run's clock: how long it has taken, and whether it still ticks. */
export interface Clock {
  readonly elapsedMs: number;
  readonly ticking: boolean;
}

/**
 * clockOf is the clock of a run at a moment of the server's time. It stops when
 * the run ended, and also when every runner was lost: nothing is known to go on then.
 */
export function clockOf(run: Run, serverNowMs: number): Clock {
  const started = msOf(run.startedAt);
  if (started === undefined) return { elapsedMs: 0, ticking: false };
  const ended = msOf(run.endedAt);
  if (ended !== undefined) return { elapsedMs: ended - started, ticking: false };
  const lost = lostSince(run.shards);
  if (lost !== undefined) return { elapsedMs: lost - started, ticking: false };
  return { elapsedMs: serverNowMs - started, ticking: run.state === RunState.RUNNING };
}

/** lostSince is when the last runner was lost, if some were and none is left; undefined otherwise. */
export function lostSince(shards: readonly Shard[]): number | undefined {
  if (shards.some((shard) => shard.state === ShardState.LIVE)) return undefined;
  let latest: number | undefined;
  for (const shard of shards) {
    const at = msOf(shard.changedAt);
    if (shard.state === ShardState.DISCONNECTED && at !== undefined) latest = Math.max(latest ?? at, at);
  }
  return latest;
}

/** The parts of a progress bar, in tests. */
export interface Progress {
  readonly passed: number;
  readonly failed: number;
  readonly flaky: number;
  readonly skipped: number;
  readonly running: number;
  /** Queued, and those expected that were not heard of; 0 once the run ended. */
  readonly remaining: number;
  /** How many are over. */
  readonly done: number;
  /** How many there are, or are expected to be. */
  readonly total: number;
  /** Whether total may still change. */
  readonly estimated: boolean;
}

/** progressOf divides a run's tests; expected is about how many there will be, 0 if unknown. */
export function progressOf(counts: Counts | undefined, expected: number, live: boolean): Progress {
  const known = counts?.total ?? 0;
  const running = (counts?.running ?? 0) + (counts?.paused ?? 0);
  const queued = counts?.queued ?? 0;
  const flaky = counts?.flaky ?? 0;
  const total = live ? Math.max(known, expected) : known;
  return {
    passed: (counts?.passed ?? 0) - flaky,
    failed: failures(counts),
    flaky,
    skipped: (counts?.skipped ?? 0) + (counts?.blocked ?? 0),
    running,
    remaining: queued + total - known,
    done: known - running - queued,
    total,
    estimated: live,
  };
}

/**
 * remainingMs guesses how much longer a run takes; undefined while that would be
 * no more than a guess: before a tenth is done, or with nothing to compare with.
 */
export function remainingMs(progress: Progress, clock: Clock, expected: number): number | undefined {
  if (!clock.ticking || expected === 0 || progress.total === 0 || progress.done >= progress.total)
    return undefined;
  const share = progress.done / progress.total;
  if (share < 0.1) return undefined;
  return (clock.elapsedMs / share) * (1 - share);
}

/** safeLink is an address that may become a link: http and https only; undefined for any other. */
export function safeLink(address: string): string | undefined {
  const url = URL.parse(address);
  return url !== null && (url.protocol === "https:" || url.protocol === "http:") ? url.href : undefined;
}
