import { create } from "@bufbuild/protobuf";
import {
  type Counts,
  CountsSchema,
  ResultFlag,
  type ResultRow,
  Status,
  type TestExecutionUpdate,
  TestKind,
} from "@tcmanager/gen/tcmanager/v1/execution_pb";
import { timestampToMs } from "../time";

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

/** isFailure says whether a status counts as a test that did not pass. */
export function isFailure(status: Status): boolean {
  switch (status) {
    case Status.FAILED:
    case Status.ERRORED:
    case Status.TIMED_OUT:
    case Status.ABORTED:
      return true;
    default:
      return false;
  }
}

function isInFlight(status: Status): boolean {
  return status === Status.RUNNING || status === Status.PAUSED;
}

/** After so many changes the older half is forgotten: who was away for longer reads all rows. */
const maxLog = 1 << 17;
const noFlags: readonly ResultFlag[] = Object.freeze([]);
/** Room for each Status, and one more for the flaky. */
const tallySize = 12;
const flakySlot = 11;

/** The tests of one suite. */
interface SuiteIndex {
  readonly name: string;
  /** Slot by test name. */
  readonly slots: Map<string, number>;
  /** Tests by Status, and the flaky at flakySlot. */
  readonly tally: Int32Array;
}

/**
 * Rows is the RowTable of a run room. Pages of ListResults and live events merge
 * in any order: of two states of a test, the one with the higher offset is the
 * newer.
 *
 * Pages define the order of first appearance. So while they are being read, a
 * test that is known from an event only waits for its place (index -1); place
 * gives the rest their places at the end.
 */
export class Rows implements RowTable {
  readonly #suites = new Map<string, SuiteIndex>();
  readonly #slots: Row[] = [];
  /** Slot by index. */
  readonly #order: number[] = [];
  readonly #unplaced = new Set<number>();
  readonly #inFlight = new Set<number>();
  readonly #failed = new Set<number>();
  readonly #dirtySuites = new Set<string>();
  /** Slots known from a snapshot only: their offset is the snapshot's, and a page knows the true one. */
  readonly #provisional = new Set<number>();
  #log: number[] = [];
  #logStart = 0;
  #loading = true;
  /** Count the changes of the lists, so that they are made again only then. */
  #runningVersion = 0;
  #failuresVersion = 0;

  get length(): number {
    return this.#order.length;
  }

  get version(): number {
    return this.#logStart + this.#log.length;
  }

  get runningVersion(): number {
    return this.#runningVersion;
  }

  get failuresVersion(): number {
    return this.#failuresVersion;
  }

  at(index: number): Row | undefined {
    const slot = this.#order[index];
    return slot === undefined ? undefined : this.#slots[slot];
  }

  find(suite: string, name: string): Row | undefined {
    const slot = this.#suites.get(suite)?.slots.get(name);
    return slot === undefined ? undefined : this.#slots[slot];
  }

  changesSince(version: number): readonly number[] {
    const skip = version - this.#logStart;
    if (skip < 0) return Array.from(this.#order.keys());
    const changed = new Set<number>();
    for (let i = skip; i < this.#log.length; i++) changed.add(this.#log[i] ?? 0);
    return [...changed].sort((a, b) => a - b);
  }

  /** Tests running or paused, longest first. */
  running(): Row[] {
    const latest = Number.MAX_VALUE;
    return this.#pick(this.#inFlight).sort((a, b) => (a.startedAtMs || latest) - (b.startedAtMs || latest));
  }

  /** Tests that did not pass, newest first; of equals the one that came last. */
  failures(): Row[] {
    return this.#pick(this.#failed)
      .reverse()
      .sort((a, b) => b.offset - a.offset);
  }

  /** Counts of a suite's tests by their last attempt. */
  counts(suite: string): Counts {
    const tally = this.#suites.get(suite)?.tally;
    return tally === undefined ? create(CountsSchema) : toCounts(tally);
  }

  /** The suites whose counts changed since the last call. */
  takeDirtySuites(): string[] {
    const dirty = [...this.#dirtySuites];
    this.#dirtySuites.clear();
    return dirty;
  }

  /** Merges one page of ListResults. */
  addPage(suites: readonly string[], page: readonly ResultRow[]): void {
    for (const row of page) {
      const suite = this.#suite(suites[row.suite] ?? "");
      const slot = suite.slots.get(row.name);
      const before = slot === undefined ? undefined : this.#slots[slot];
      const provisional = slot !== undefined && this.#provisional.delete(slot);
      if (before === undefined || provisional || before.offset < Number(row.offset)) {
        const parent = sharedParent(suite, row.parent, this.#slots);
        this.#put(suite, slot, fromPage(row, suite, parent));
      }
      this.#placeSlot(suite.slots.get(row.name) ?? -1);
    }
  }

  /** Takes a test's state from a snapshot at offset, until a page says when it really changed. */
  applySnapshot(update: TestExecutionUpdate, offset: number): void {
    if (!this.apply(update, offset) || update.test === undefined) return;
    const slot = this.#suite(update.test.suite).slots.get(update.test.name);
    if (slot !== undefined) this.#provisional.add(slot);
  }

  /** Merges a live change. Returns false if the row was newer already. */
  apply(update: TestExecutionUpdate, offset: number): boolean {
    const { test } = update;
    if (test === undefined) return false;
    const suite = this.#suite(test.suite);
    const slot = suite.slots.get(test.name);
    const before = slot === undefined ? undefined : this.#slots[slot];
    if (before !== undefined) {
      // A row tells of the last attempt: news of an earlier one is no news.
      if (before.offset >= offset || before.attempt > Math.max(update.attempt, 1)) return false;
    }
    if (slot !== undefined) this.#provisional.delete(slot);
    const parent = before?.parent || sharedParent(suite, test.parent, this.#slots);
    this.#put(suite, slot, fromUpdate(update, offset, before, suite, parent));
    if (!this.#loading) this.#placeSlot(suite.slots.get(test.name) ?? -1);
    return true;
  }

  /** The pages are read: what waited for a place gets one at the end, as does all that comes. */
  place(): void {
    this.#loading = false;
    for (const slot of [...this.#unplaced]) this.#placeSlot(slot);
  }

  #suite(name: string): SuiteIndex {
    let suite = this.#suites.get(name);
    if (suite === undefined) {
      suite = { name, slots: new Map(), tally: new Int32Array(tallySize) };
      this.#suites.set(name, suite);
    }
    return suite;
  }

  #put(suite: SuiteIndex, known: number | undefined, row: Row): void {
    const slot = known ?? this.#slots.length;
    const before = this.#slots[slot];
    this.#slots[slot] = before === undefined ? row : { ...row, index: before.index };
    if (before === undefined) {
      suite.slots.set(row.name, slot);
      this.#unplaced.add(slot);
    } else if (before.index >= 0) {
      this.#changed(before.index);
    }
    this.#count(suite, before, -1);
    this.#count(suite, row, 1);
    this.#list(slot, before, row);
  }

  #placeSlot(slot: number): void {
    if (!this.#unplaced.delete(slot)) return;
    const row = this.#slots[slot];
    if (row === undefined) return;
    const index = this.#order.push(slot) - 1;
    this.#slots[slot] = { ...row, index };
    this.#changed(index);
    this.#list(slot, row, row);
  }

  #changed(index: number): void {
    if (this.#log.length >= maxLog) {
      this.#log = this.#log.slice(maxLog / 2);
      this.#logStart += maxLog / 2;
    }
    this.#log.push(index);
  }

  #count(suite: SuiteIndex, row: Row | undefined, by: number): void {
    if (row === undefined) return;
    const { tally } = suite;
    tally[row.status] = (tally[row.status] ?? 0) + by;
    if (isFlaky(row)) tally[flakySlot] = (tally[flakySlot] ?? 0) + by;
    this.#dirtySuites.add(suite.name);
  }

  #list(slot: number, before: Row | undefined, row: Row): void {
    if (
      move(this.#inFlight, slot, before !== undefined && isInFlight(before.status), isInFlight(row.status))
    ) {
      this.#runningVersion++;
    }
    if (move(this.#failed, slot, before !== undefined && isFailure(before.status), isFailure(row.status))) {
      this.#failuresVersion++;
    }
  }

  #pick(slots: ReadonlySet<number>): Row[] {
    const rows: Row[] = [];
    for (const slot of slots) {
      const row = this.#slots[slot];
      if (row !== undefined) rows.push(row);
    }
    return rows;
  }
}

/** move puts slot in or out of a set; true if the list made of the set is another now. */
function move(set: Set<number>, slot: number, was: boolean, is: boolean): boolean {
  if (is) set.add(slot);
  else if (was) set.delete(slot);
  return was || is;
}

function isFlaky(row: Row): boolean {
  return row.status === Status.PASSED && row.flags.includes(ResultFlag.FLAKY);
}

function toCounts(tally: Int32Array): Counts {
  const of = (status: number) => tally[status] ?? 0;
  let total = 0;
  for (let status = 0; status < flakySlot; status++) total += of(status);
  return create(CountsSchema, {
    total,
    passed: of(Status.PASSED),
    failed: of(Status.FAILED),
    errored: of(Status.ERRORED),
    skipped: of(Status.SKIPPED),
    blocked: of(Status.BLOCKED),
    timedOut: of(Status.TIMED_OUT),
    aborted: of(Status.ABORTED),
    running: of(Status.RUNNING),
    paused: of(Status.PAUSED),
    queued: of(Status.QUEUED),
    flaky: of(flakySlot),
  });
}

/** The parent's name as its own row holds it: one string for all its subtests. */
function sharedParent(suite: SuiteIndex, parent: string, rows: readonly Row[]): string {
  const slot = parent === "" ? undefined : suite.slots.get(parent);
  return (slot === undefined ? undefined : rows[slot]?.name) ?? parent;
}

function fromPage(row: ResultRow, suite: SuiteIndex, parent: string): Row {
  return {
    index: -1,
    suite: suite.name,
    name: row.name,
    parent,
    kind: row.kind,
    status: row.status,
    attempt: row.attempt,
    durationMs: row.durationMs,
    message: row.message,
    file: row.file,
    line: row.line,
    flags: row.flags.length === 0 ? noFlags : row.flags,
    startedAtMs: timestampToMs(row.startedAt),
    progress: row.progress,
    testCaseId: row.testCaseId,
    offset: Number(row.offset),
  };
}

/** fromUpdate makes the row after an update. What an update may leave unsaid stays as it was in the same attempt. */
function fromUpdate(
  update: TestExecutionUpdate,
  offset: number,
  before: Row | undefined,
  suite: SuiteIndex,
  parent: string,
): Row {
  const { test, error } = update;
  const attempt = Math.max(update.attempt, 1);
  const same = before?.attempt === attempt ? before : undefined;
  const kind = test?.kind ?? TestKind.UNSPECIFIED;
  return {
    index: -1,
    suite: suite.name,
    name: before?.name ?? test?.name ?? "",
    parent,
    kind: kind === TestKind.UNSPECIFIED ? (before?.kind ?? kind) : kind,
    status: update.status,
    attempt,
    durationMs: update.durationMs,
    message: error?.message ?? "",
    file: error?.file ?? "",
    line: error?.line ?? 0,
    flags: update.flags.length === 0 ? noFlags : update.flags,
    startedAtMs: timestampToMs(update.startedAt) || (same?.startedAtMs ?? 0),
    progress: update.progress,
    testCaseId: (update.testCaseId || before?.testCaseId) ?? "",
    offset,
  };
}
