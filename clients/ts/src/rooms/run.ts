import type { Run, Suite } from "@tcmanager/gen/tcmanager/v1/execution_pb";
import type { TcmError } from "../errors";
import type { RoomSnapshot } from "../store";
import type { Row, RowTable } from "./row-table";

/** How far the rows of a run were read. */
export type RowsState = "loading" | "complete" | "failed";

/** RunSnapshot is the live state of a run. */
export interface RunSnapshot extends RoomSnapshot {
  /** The run with its newest counts; undefined while loading. */
  readonly run: Run | undefined;
  /** Suites by name, in order of first appearance, their counts kept up with the rows. */
  readonly suites: ReadonlyMap<string, Suite>;
  /** Tests running or paused, longest first. */
  readonly running: readonly Row[];
  /** Tests whose last attempt did not pass (failed, errored, timed out, aborted), newest first. */
  readonly failures: readonly Row[];
  /** All tests. Another object after a reset, when all rows are read anew. */
  readonly rows: RowTable;
  /** rows.version when this snapshot was made. */
  readonly rowsVersion: number;
  /** "complete" means that rows holds every test, and stays so live. */
  readonly rowsState: RowsState;
  /** Why rowsState is "failed"; undefined otherwise. */
  readonly rowsError: TcmError | undefined;
  /** Rows read so far, for a progress line. */
  readonly rowsLoaded: number;
  /** About how many rows there are in all, at least rowsLoaded. */
  readonly rowsExpected: number;
}
