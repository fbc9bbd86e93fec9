import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import {
  type Counts,
  CountsSchema,
  type ListResultsResponse,
  ListResultsResponseSchema,
  type ResultRow,
  ResultRowSchema,
  type Run,
  Status,
  type Suite,
  SuiteSchema,
  type TestExecutionUpdate,
  TestExecutionUpdateSchema,
  TestKind,
} from "@tcmanager/gen/tcmanager/v1/execution_pb";
import { type RunSnapshot, RunSnapshotSchema } from "@tcmanager/gen/tcmanager/v1/realtime_pb";

/** A test's last update with the offset of its event. */
interface Entry {
  readonly update: TestExecutionUpdate;
  readonly offset: bigint;
}

/** FakeRun is a run as the fake server stores it. */
export class FakeRun {
  readonly #tests = new Map<string, Entry>();
  readonly #suites = new Map<string, Suite>();

  constructor(public run: Run) {}

  /** Makes a change and returns what readers get. Apply it with the offset it got. */
  complete(update: MessageInitShape<typeof TestExecutionUpdateSchema>): TestExecutionUpdate {
    const full = create(TestExecutionUpdateSchema, update);
    full.runId = this.run.id;
    full.attempt ||= 1;
    return full;
  }

  /** Stores a change. */
  apply(update: TestExecutionUpdate, offset: bigint): void {
    const { suite, name } = update.test ?? { suite: "", name: "" };
    const key = `${suite}\0${name}`;
    const before = this.#tests.get(key);
    this.#tests.set(key, { update, offset });
    const line = this.#suite(suite);
    const counts = count(line.counts, before?.update.status, update.status);
    this.#suites.set(suite, { ...line, counts });
    this.run = { ...this.run, counts: count(this.run.counts, before?.update.status, update.status) };
  }

  /** Fills the run with so many tests that ended; every failEvery-th failed. */
  seed(tests: number, failEvery: number, nextOffset: () => bigint): void {
    for (let i = 0; i < tests; i++) {
      const top = `TestFeature${Math.floor((i % 200) / 20)}`;
      const isTop = i % 20 === 0;
      const failed = failEvery > 0 && i % failEvery === failEvery - 1;
      const update = this.complete({
        test: {
          suite: `example.org/seeded/pkg${Math.floor(i / 200)}`,
          name: isTop ? top : `${top}/case_${i % 20}`,
          parent: isTop ? "" : top,
          kind: TestKind.TEST,
        },
        status: failed ? Status.FAILED : Status.PASSED,
        durationMs: (i % 100) / 10,
        startedAt: timestampFromMs(Date.UTC(2026, 0, 1) + i),
        ...(failed && {
          error: { message: `got ${i}, want ${i + 1}`, file: "seeded_test.go", line: i % 500 },
        }),
      });
      this.apply(update, nextOffset());
    }
  }

  snapshot(): RunSnapshot {
    const newest = [...this.#tests.values()].map(({ update }) => update).reverse();
    return create(RunSnapshotSchema, {
      run: this.run,
      suites: this.suites(),
      running: newest
        .filter(({ status }) => status === Status.RUNNING || status === Status.PAUSED)
        .slice(0, 200),
      failures: newest
        .filter(({ status }) => status === Status.FAILED || status === Status.ERRORED)
        .slice(0, 200),
    });
  }

  suites(): Suite[] {
    return [...this.#suites.values()];
  }

  /** One page of rows; the token is the index of its first. */
  page(pageSize: number, pageToken: string): ListResultsResponse {
    const size = pageSize || 5000;
    const start = Number(pageToken || "0");
    const entries = [...this.#tests.values()];
    const suites: string[] = [];
    const indices = new Map<string, number>();
    const rows = entries.slice(start, start + size).map((entry) => {
      const suite = entry.update.test?.suite ?? "";
      const index = indices.get(suite) ?? suites.push(suite) - 1;
      indices.set(suite, index);
      return toRow(entry, index);
    });
    const nextPageToken = start + size < entries.length ? String(start + size) : "";
    return create(ListResultsResponseSchema, { suites, rows, nextPageToken });
  }

  #suite(name: string): Suite {
    return this.#suites.get(name) ?? create(SuiteSchema, { name, status: Status.RUNNING });
  }
}

function toRow({ update, offset }: Entry, suite: number): ResultRow {
  const { test, error, startedAt, ...rest } = update;
  return create(ResultRowSchema, {
    suite,
    name: test?.name ?? "",
    parent: test?.parent ?? "",
    kind: test?.kind ?? TestKind.UNSPECIFIED,
    status: rest.status,
    attempt: rest.attempt,
    durationMs: rest.durationMs,
    message: error?.message ?? "",
    file: error?.file ?? "",
    line: error?.line ?? 0,
    flags: rest.flags,
    offset,
    ...(startedAt && { startedAt }),
    progress: rest.progress,
    testCaseId: rest.testCaseId,
  });
}

type CountName = Exclude<keyof Counts, "$typeName" | "$unknown" | "total">;

const countNames: Readonly<Record<Status, CountName | undefined>> = {
  [Status.UNSPECIFIED]: undefined,
  [Status.QUEUED]: "queued",
  [Status.RUNNING]: "running",
  [Status.PAUSED]: "paused",
  [Status.PASSED]: "passed",
  [Status.FAILED]: "failed",
  [Status.ERRORED]: "errored",
  [Status.SKIPPED]: "skipped",
  [Status.BLOCKED]: "blocked",
  [Status.TIMED_OUT]: "timedOut",
  [Status.ABORTED]: "aborted",
};

function count(counts: Counts | undefined, before: Status | undefined, after: Status): Counts {
  const next = { ...(counts ?? create(CountsSchema)) };
  if (before === undefined) next.total++;
  const from = before === undefined ? undefined : countNames[before];
  const to = countNames[after];
  if (from !== undefined) next[from]--;
  if (to !== undefined) next[to]++;
  return next;
}
