import { create } from "@bufbuild/protobuf";
import type { Event } from "@tcmanager/gen/tcmanager/v1/event_pb";
import {
  type ListResultsResponse,
  type Run,
  RunChange,
  type Suite,
  type SuiteExecutionUpdate,
  SuiteSchema,
  type TestExecutionUpdate,
} from "@tcmanager/gen/tcmanager/v1/execution_pb";
import type { RunSnapshot as RunSnapshotMessage } from "@tcmanager/gen/tcmanager/v1/realtime_pb";
import type { TcmError } from "../errors";
import type { RoomMessage } from "../session";
import type { RoomSnapshot } from "../store";
import { applyProgress } from "./project";
import { type Row, Rows, type RowTable } from "./row-table";

/** How far the rows of a run were read. */
export type RowsState = "loading" | "complete" | "failed";

/** The part of a run room that is about the run. */
export interface RunState {
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
  /** "complete" means that rows holds every test that the server keeps, and stays so live. */
  readonly rowsState: RowsState;
  /** Why rowsState is "failed"; undefined otherwise. */
  readonly rowsError: TcmError | undefined;
  /** Rows read so far, for a progress line. */
  readonly rowsLoaded: number;
  /** About how many rows there are in all, at least rowsLoaded. */
  readonly rowsExpected: number;
}

/** RunSnapshot is the live state of a run. */
export interface RunSnapshot extends RoomSnapshot, RunState {}

/** The details of so many failures are kept: at 16 KiB each they are the largest part of an update. */
const maxDetails = 200;

/**
 * RunRoom is the reducer of a run's room. It is mutable inside, since a run has
 * 50,000 rows and more, and hands out snapshots that share what didn't change.
 * It does nothing by itself: the same input in the same order gives the same state.
 */
export class RunRoom {
  #rows = new Rows();
  #run: Run | undefined;
  #suites = new Map<string, Suite>();
  #suitesShared = false;
  #rowsState: RowsState = "loading";
  #rowsError: TcmError | undefined;
  #running: { readonly version: number; readonly rows: readonly Row[] } = { version: -1, rows: [] };
  #failures: { readonly version: number; readonly rows: readonly Row[] } = { version: -1, rows: [] };
  readonly #details = new Map<string, string>();

  /** Takes what the room heard. */
  apply(message: RoomMessage): void {
    switch (message.kind) {
      case "joined": {
        const { snapshot, position } = message.joined;
        if (snapshot.case === "run") this.#restart(snapshot.value, Number(position?.offset ?? 0n));
        return;
      }
      case "events":
        for (const event of message.events) this.#event(event);
        return;
      case "reset":
      case "stale":
      case "failed":
        return;
      default:
        message satisfies never;
    }
  }

  /** Takes a page of rows. */
  addPage(page: ListResultsResponse): void {
    this.#rows.addPage(page.suites, page.rows);
  }

  /** Takes how far the run is from a call's answer. */
  recounted(run: Run | undefined): void {
    this.#run = this.#run && run && applyProgress(this.#run, run);
  }

  /** Rows are about to be read again. */
  rowsLoading(): void {
    this.#rowsState = "loading";
    this.#rowsError = undefined;
  }

  /** The last page was taken: from now on the suites' counts are those of the rows. */
  rowsComplete(): void {
    this.#rows.place();
    this.#rowsState = "complete";
  }

  /** The rows can't be read. What is known stays, and goes on live. */
  rowsFailed(error: TcmError): void {
    this.#rows.place();
    this.#rowsState = "failed";
    this.#rowsError = error;
  }

  /** The details of a failure; "" if unknown. */
  details(suite: string, name: string): string {
    return this.#details.get(detailsKey(suite, name)) ?? "";
  }

  /** The state now. Parts that didn't change since the last call are the same objects. */
  snapshot(): RunState {
    const rows = this.#rows;
    // Of a run whose results were trimmed the suites know more than the rows.
    if (this.#rowsState === "complete" && !this.#run?.resultsTrimmed) this.#countSuites();
    if (this.#running.version !== rows.runningVersion) {
      this.#running = { version: rows.runningVersion, rows: rows.running() };
    }
    if (this.#failures.version !== rows.failuresVersion) {
      this.#failures = { version: rows.failuresVersion, rows: rows.failures() };
    }
    this.#suitesShared = true;
    return {
      run: this.#run,
      suites: this.#suites,
      running: this.#running.rows,
      failures: this.#failures.rows,
      rows,
      rowsVersion: rows.version,
      rowsState: this.#rowsState,
      rowsError: this.#rowsError,
      rowsLoaded: rows.length,
      rowsExpected: this.#run?.resultsTrimmed
        ? rows.length
        : Math.max(rows.length, this.#run?.counts?.total ?? 0),
    };
  }

  /** Begins anew from a snapshot at offset: all that was known is void. */
  #restart(snapshot: RunSnapshotMessage, offset: number): void {
    this.#rows = new Rows();
    this.#running = { version: -1, rows: [] };
    this.#failures = { version: -1, rows: [] };
    this.#details.clear();
    this.rowsLoading();
    this.#run = snapshot.run;
    this.#suites = new Map(snapshot.suites.map((suite) => [suite.name, suite]));
    this.#suitesShared = false;
    // They are as they were at offset. Oldest first: the order of equals is that of arrival.
    for (const update of [...snapshot.running, ...snapshot.failures.toReversed()]) {
      this.#rows.applySnapshot(update, offset);
      this.#keepDetails(update);
    }
  }

  #event({ payload, offset }: Event): void {
    switch (payload.case) {
      case "testExecution":
        return this.#test(payload.value, Number(offset));
      case "suiteExecution":
        return this.#suite(payload.value, offset);
      case "runChanged":
        // Of a run that was deleted the event has next to nothing: the room ends, and what was known stays till then.
        if (payload.value.change !== RunChange.DELETED) this.#run = payload.value.run ?? this.#run;
        return;
      case "runProgress":
        this.#run = this.#run && applyProgress(this.#run, payload.value);
        return;
      default:
        return;
    }
  }

  #test(update: TestExecutionUpdate, offset: number): void {
    if (this.#rows.apply(update, offset)) this.#keepDetails(update);
  }

  #keepDetails({ test, error }: TestExecutionUpdate): void {
    if (test === undefined || error === undefined || error.details === "") return;
    const key = detailsKey(test.suite, test.name);
    this.#details.delete(key);
    this.#details.set(key, error.details);
    if (this.#details.size <= maxDetails) return;
    for (const oldest of this.#details.keys()) {
      this.#details.delete(oldest);
      return;
    }
  }

  #suite(update: SuiteExecutionUpdate, offset: bigint): void {
    const known = this.#suites.get(update.suite) ?? create(SuiteSchema, { name: update.suite });
    if (known.offset >= offset) return;
    const { status, durationMs, error, flags, rawStatus } = update;
    const { error: _, ...rest } = known;
    this.#putSuite({ ...rest, status, durationMs, flags, rawStatus, offset, ...(error && { error }) });
  }

  #countSuites(): void {
    for (const name of this.#rows.takeDirtySuites()) {
      const known = this.#suites.get(name) ?? create(SuiteSchema, { name });
      this.#putSuite({ ...known, counts: this.#rows.counts(name) });
    }
  }

  /** Copies the map first if a snapshot holds it. */
  #putSuite(suite: Suite): void {
    if (this.#suitesShared) {
      this.#suites = new Map(this.#suites);
      this.#suitesShared = false;
    }
    this.#suites.set(suite.name, suite);
  }
}

function detailsKey(suite: string, name: string): string {
  return `${suite}\0${name}`;
}
