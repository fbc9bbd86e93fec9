import type { ResultFlag, Status, TestKind } from "@tcmanager/gen/tcmanager/v1/execution_pb";

/** Row is one test's line in a run: its last attempt. A change makes a new object. */
export interface Row {
  /** The place in RowTable; -1 while the table is still loading and the place isn't known. */
  readonly index: number;
  readonly suite: string;
  /** The full name within the suite. */
  readonly name: string;
  /** The name of the test it is part of; empty for a top-level test. */
  readonly parent: string;
  readonly kind: TestKind;
  readonly status: Status;
  /** 1 for the first time it ran in the run. */
  readonly attempt: number;
  /** Running time of the last attempt; 0 until it ended. */
  readonly durationMs: number;
  /** The first line of why it did not pass; empty otherwise. */
  readonly message: string;
  /** The source file of the failure; empty if unknown. */
  readonly file: string;
  /** The line in file; 0 if unknown. */
  readonly line: number;
  readonly flags: readonly ResultFlag[];
  /** When the last attempt began, by the runner's clock; 0 if unknown. */
  readonly startedAtMs: number;
  /** 0 to 100; 0 also when not known. */
  readonly progress: number;
  /** The linked test case; empty if none. */
  readonly testCaseId: string;
  /** The number in the run's room of the event that last changed it. */
  readonly offset: number;
}

/**
 * RowTable holds all tests of a run by index, in the order in which they first
 * appeared. An index never moves; rows are replaced in place. It is one mutable
 * object, so that 50,000 rows are not copied per change: read it when
 * RunSnapshot.rowsVersion or RunSnapshot.rows changed.
 */
export interface RowTable {
  /** How many rows there are. */
  readonly length: number;
  /** Counts changes; grows with each. */
  readonly version: number;
  /** The row at index; undefined beyond the end. */
  at(index: number): Row | undefined;
  /** The row of a test; undefined if there is none. It may not have a place yet. */
  find(suite: string, name: string): Row | undefined;
  /**
   * The indices of rows changed or added since version, ascending, each once.
   * All of them when version is too long ago to know.
   */
  changesSince(version: number): readonly number[];
}
