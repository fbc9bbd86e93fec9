import { Status } from "@tcmanager/gen/tcmanager/v1/execution_pb";

/**
 * The few ways in which a state is shown. Each has its own shape as well as its
 * own colour (see StatusIcon), so that no state is told by colour alone.
 */
export type Tone =
  | "passed"
  | "failed"
  | "errored"
  | "timed-out"
  | "aborted"
  | "skipped"
  | "blocked"
  | "running"
  | "paused"
  | "queued"
  | "flaky"
  | "unknown";

/** How a state is written and shown. */
export interface Look {
  readonly tone: Tone;
  readonly word: string;
}

/** lookOf says how a test's state is shown. */
export function lookOf(status: Status): Look {
  switch (status) {
    case Status.UNSPECIFIED:
      return { tone: "unknown", word: "Not known" };
    case Status.QUEUED:
      return { tone: "queued", word: "Queued" };
    case Status.RUNNING:
      return { tone: "running", word: "Running" };
    case Status.PAUSED:
      return { tone: "paused", word: "Paused" };
    case Status.PASSED:
      return { tone: "passed", word: "Passed" };
    case Status.FAILED:
      return { tone: "failed", word: "Failed" };
    case Status.ERRORED:
      return { tone: "errored", word: "Errored" };
    case Status.SKIPPED:
      return { tone: "skipped", word: "Skipped" };
    case Status.BLOCKED:
      return { tone: "blocked", word: "Blocked" };
    case Status.TIMED_OUT:
      return { tone: "timed-out", word: "Timed out" };
    case Status.ABORTED:
      return { tone: "aborted", word: "Aborted" };
    default:
      status satisfies never;
      // A newer server may know more states than this page.
      return { tone: "unknown", word: "Not known" };
  }
}

/** What counters on the tree's nodes tell apart. */
export type Bucket = "passed" | "failed" | "skipped" | "running" | "queued";

/** bucketOf is the counter a state belongs to; undefined for none. */
export function bucketOf(status: Status): Bucket | undefined {
  switch (status) {
    case Status.PASSED:
      return "passed";
    case Status.FAILED:
    case Status.ERRORED:
    case Status.TIMED_OUT:
    case Status.ABORTED:
      return "failed";
    case Status.SKIPPED:
    case Status.BLOCKED:
      return "skipped";
    case Status.RUNNING:
    case Status.PAUSED:
      return "running";
    case Status.QUEUED:
      return "queued";
    default:
      return undefined;
  }
}

/** isFailure says whether a state is one somebody has to look at. */
export function isFailure(status: Status): boolean {
  return bucketOf(status) === "failed";
}

/** isInFlight says whether a test in this state may still print and change. */
export function isInFlight(status: Status): boolean {
  return bucketOf(status) === "running" || status === Status.QUEUED;
}
