import { create, type MessageInitShape } from "@bufbuild/protobuf";
import {
  ResultFlag,
  type ResultRow,
  ResultRowSchema,
  Status,
  type TestExecutionUpdate,
  TestExecutionUpdateSchema,
} from "@tcmanager/gen/tcmanager/v1/execution_pb";
import { describe, expect, test } from "vitest";
import { type Row, Rows } from "./row-table";

function update(
  suite: string,
  name: string,
  status: Status,
  more: MessageInitShape<typeof TestExecutionUpdateSchema> = {},
): TestExecutionUpdate {
  return create(TestExecutionUpdateSchema, {
    attempt: 1,
    ...more,
    test: { suite, name },
    status,
  } as MessageInitShape<typeof TestExecutionUpdateSchema>);
}

function row(
  name: string,
  status: Status,
  offset: number,
  more: MessageInitShape<typeof ResultRowSchema> = {},
): ResultRow {
  return create(ResultRowSchema, {
    attempt: 1,
    ...more,
    suite: 0,
    name,
    status,
    offset: BigInt(offset),
  } as MessageInitShape<typeof ResultRowSchema>);
}

function names(rows: readonly Row[]): string[] {
  return rows.map(({ name }) => name);
}

function all(rows: Rows): Row[] {
  return Array.from({ length: rows.length }, (_, index) => rows.at(index)!);
}

describe("rows", () => {
  test("take the state with the higher offset, whichever comes first", () => {
    const rows = new Rows();
    rows.apply(update("s", "A", Status.FAILED), 10);
    rows.addPage(["s"], [row("A", Status.RUNNING, 9), row("B", Status.RUNNING, 3)]);
    rows.apply(update("s", "B", Status.PASSED), 11);
    rows.addPage(["s"], [row("B", Status.RUNNING, 3)]);
    expect(rows.find("s", "A")).toMatchObject({ status: Status.FAILED, offset: 10 });
    expect(rows.find("s", "B")).toMatchObject({ status: Status.PASSED, offset: 11 });
  });

  test("drop a change that came before", () => {
    const rows = new Rows();
    rows.place();
    expect(rows.apply(update("s", "A", Status.PASSED), 5)).toBe(true);
    const { version } = rows;
    expect(rows.apply(update("s", "A", Status.FAILED), 5)).toBe(false);
    expect(rows.version).toBe(version);
  });

  test("keep the order of the pages for tests that were known from events before", () => {
    const rows = new Rows();
    rows.apply(update("s", "C", Status.RUNNING), 20);
    rows.apply(update("s", "New", Status.RUNNING), 21);
    expect(rows.length, "no place is known yet").toBe(0);
    expect(rows.find("s", "C")?.index).toBe(-1);
    rows.addPage(["s"], [row("A", Status.PASSED, 1), row("B", Status.PASSED, 2), row("C", Status.QUEUED, 3)]);
    rows.place();
    expect(names(all(rows))).toEqual(["A", "B", "C", "New"]);
    expect(all(rows).map(({ index }) => index)).toEqual([0, 1, 2, 3]);
    expect(rows.at(2)?.status).toBe(Status.RUNNING);
  });

  test("tell which indices changed since a version, ascending, each once", () => {
    const rows = new Rows();
    rows.addPage(
      ["s"],
      [row("A", Status.RUNNING, 1), row("B", Status.RUNNING, 2), row("C", Status.RUNNING, 3)],
    );
    rows.place();
    const { version } = rows;
    expect(rows.changesSince(version)).toEqual([]);
    rows.apply(update("s", "C", Status.PASSED), 4);
    rows.apply(update("s", "A", Status.PASSED), 5);
    rows.apply(update("s", "C", Status.FAILED, { attempt: 2 }), 6);
    rows.apply(update("s", "D", Status.RUNNING), 7);
    expect(rows.changesSince(version)).toEqual([0, 2, 3]);
    expect(rows.changesSince(0)).toEqual([0, 1, 2, 3]);
  });

  test("tell all indices to whoever was away for too long", () => {
    const rows = new Rows();
    rows.addPage(["s"], [row("A", Status.RUNNING, 1), row("B", Status.RUNNING, 2)]);
    rows.place();
    const { version } = rows;
    for (let offset = 3; offset < 3 + (1 << 17); offset++)
      rows.apply(update("s", "B", Status.RUNNING), offset);
    expect(rows.changesSince(version)).toEqual([0, 1]);
    expect(rows.changesSince(rows.version - 10)).toEqual([1]);
  });

  test("list failures newest first, also when pages tell of them in another order", () => {
    const rows = new Rows();
    rows.applySnapshot(update("s", "B", Status.FAILED), 100);
    rows.applySnapshot(update("s", "C", Status.FAILED), 100);
    expect(names(rows.failures()), "of a snapshot the last comes first").toEqual(["C", "B"]);
    rows.addPage(
      ["s"],
      [row("C", Status.FAILED, 40), row("B", Status.FAILED, 50), row("A", Status.TIMED_OUT, 45)],
    );
    expect(names(rows.failures()), "the pages know the true offsets").toEqual(["B", "A", "C"]);
    rows.apply(update("s", "C", Status.PASSED, { attempt: 2 }), 101);
    rows.apply(update("s", "D", Status.ERRORED), 102);
    expect(names(rows.failures())).toEqual(["D", "B", "A"]);
  });

  test("of a snapshot give way to no page that is older than a live change", () => {
    const rows = new Rows();
    rows.applySnapshot(update("s", "A", Status.FAILED), 100);
    rows.apply(update("s", "A", Status.RUNNING, { attempt: 2 }), 101);
    rows.addPage(["s"], [row("A", Status.FAILED, 40)]);
    expect(rows.find("s", "A")?.status).toBe(Status.RUNNING);
  });

  test("list running and paused tests, longest first", () => {
    const rows = new Rows();
    const at = (seconds: bigint) =>
      ({ startedAt: { seconds, nanos: 0 } }) as MessageInitShape<typeof TestExecutionUpdateSchema>;
    rows.apply(update("s", "Late", Status.RUNNING, at(30n)), 1);
    rows.apply(update("s", "Early", Status.PAUSED, at(10n)), 2);
    rows.apply(update("s", "Unknown", Status.RUNNING), 3);
    rows.apply(update("s", "Done", Status.PASSED, at(5n)), 4);
    expect(names(rows.running())).toEqual(["Early", "Late", "Unknown"]);
    rows.apply(update("s", "Early", Status.PASSED), 5);
    expect(names(rows.running())).toEqual(["Late", "Unknown"]);
    expect(rows.find("s", "Early")?.startedAtMs, "the start stays known").toBe(10_000);
  });

  test("do not go back to an earlier attempt", () => {
    const rows = new Rows();
    rows.apply(update("s", "A", Status.PASSED, { attempt: 2 }), 5);
    expect(rows.apply(update("s", "A", Status.FAILED, { attempt: 1 }), 6)).toBe(false);
    expect(rows.find("s", "A")?.status).toBe(Status.PASSED);
  });

  test("count each suite's tests by their last state", () => {
    const rows = new Rows();
    rows.addPage(["s", "t"], [row("A", Status.RUNNING, 1), row("B", Status.FAILED, 2)]);
    rows.apply(update("s", "A", Status.PASSED, { flags: [ResultFlag.FLAKY] }), 3);
    rows.apply(update("s", "C", Status.SKIPPED), 4);
    rows.apply(update("t", "A", Status.QUEUED), 5);
    expect(rows.counts("s")).toMatchObject({
      total: 3,
      passed: 1,
      failed: 1,
      skipped: 1,
      running: 0,
      flaky: 1,
    });
    expect(rows.counts("t")).toMatchObject({ total: 1, queued: 1 });
    expect(rows.takeDirtySuites().sort()).toEqual(["s", "t"]);
    expect(rows.takeDirtySuites()).toEqual([]);
    expect(rows.counts("nowhere").total).toBe(0);
  });
});

/** A small generator with a seed, so that a failing case can be run again (mulberry32). */
function random(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

interface Change {
  readonly name: string;
  readonly status: Status;
  readonly attempt: number;
}

/** The run as the server has it after so many changes: rows in order of first appearance. */
function serverRows(history: readonly Change[], upTo: number): ResultRow[] {
  const rows = new Map<string, ResultRow>();
  history.slice(0, upTo).forEach(({ name, status, attempt }, i) => {
    rows.set(name, row(name, status, i + 1, { attempt }));
  });
  return [...rows.values()];
}

function makeHistory(next: () => number): Change[] {
  const attempts = new Map<string, number>();
  const statuses = [Status.RUNNING, Status.PAUSED, Status.PASSED, Status.FAILED, Status.SKIPPED];
  return Array.from({ length: 120 }, () => {
    const name = `T${Math.floor(next() * 40)}`;
    const status = statuses[Math.floor(next() * statuses.length)] ?? Status.RUNNING;
    const attempt = (attempts.get(name) ?? 1) + (next() < 0.1 ? 1 : 0);
    attempts.set(name, attempt);
    return { name, status, attempt };
  });
}

describe("pages and events", () => {
  test.each(Array.from({ length: 300 }, (_, seed) => seed))("converge in any order, seed %i", (seed) => {
    const next = random(seed);
    const history = makeHistory(next);
    const joinedAt = Math.floor(next() * history.length);
    const rows = new Rows();
    for (const { name, status, attempt, offset } of serverRows(history, joinedAt)) {
      if (status === Status.FAILED || status === Status.RUNNING) {
        rows.applySnapshot(update("s", name, status, { attempt }), joinedAt || Number(offset));
      }
    }
    // Events arrive in order, some twice; each page is read at some moment after the join.
    let delivered = joinedAt;
    let written = joinedAt;
    let cursor = 0;
    let done = false;
    while (!done || delivered < history.length) {
      written = Math.min(history.length, written + Math.floor(next() * 10));
      if (!done && next() < 0.3) {
        const stored = serverRows(history, written);
        rows.addPage(["s"], stored.slice(cursor, cursor + 7));
        cursor += 7;
        done = cursor >= stored.length;
        if (done) rows.place();
      } else if (delivered < written || done) {
        written = Math.max(written, Math.min(history.length, delivered + 1));
        const change = history[delivered];
        if (change === undefined) continue;
        const event = update("s", change.name, change.status, { attempt: change.attempt });
        rows.apply(event, delivered + 1);
        if (next() < 0.2) rows.apply(event, delivered + 1);
        delivered++;
      }
    }
    const expected = serverRows(history, history.length);
    expect(all(rows).map(({ name, status, attempt, offset }) => ({ name, status, attempt, offset }))).toEqual(
      expected.map(({ name, status, attempt, offset }) => ({
        name,
        status,
        attempt,
        offset: Number(offset),
      })),
    );
    const failed = expected.filter(({ status }) => status === Status.FAILED);
    expect(names(rows.failures())).toEqual(
      failed.sort((a, b) => Number(b.offset - a.offset)).map(({ name }) => name),
    );
    expect(rows.counts("s").total).toBe(expected.length);
    expect(rows.counts("s").failed).toBe(failed.length);
  });
});
