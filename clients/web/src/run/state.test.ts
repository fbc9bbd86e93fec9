import { create } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import {
  CountsSchema,
  EndReason,
  type Run,
  RunSchema,
  RunState,
  ShardSchema,
  ShardState,
} from "@tcmanager/gen/tcmanager/v1/execution_pb";
import { describe, expect, it } from "vitest";
import { clockOf, lookOfRun, progressOf, remainingMs, safeLink } from "./state";

const start = 1_000_000;
const running = (more: Partial<Omit<Run, "$typeName">> = {}): Run =>
  create(RunSchema, { state: RunState.RUNNING, startedAt: timestampFromMs(start), ...more });
const shard = (state: ShardState, at: number) =>
  create(ShardSchema, { state, changedAt: timestampFromMs(at) });

describe("lookOfRun", () => {
  it("calls a run failing from its first failure on, of a test or of a suite", () => {
    expect(lookOfRun(running()).state).toBe("running");
    expect(lookOfRun(running({ counts: create(CountsSchema, { failed: 1 }) })).state).toBe("failing");
    expect(lookOfRun(running({ suites: create(CountsSchema, { errored: 1 }) })).state).toBe("failing");
  });

  const ends: readonly (readonly [EndReason, string])[] = [
    [EndReason.PASSED, "passed"],
    [EndReason.FAILED, "failed"],
    [EndReason.CANCELLED, "cancelled"],
    [EndReason.TIMED_OUT, "timed-out"],
    [EndReason.INTERRUPTED, "interrupted"],
    [EndReason.ABORTED, "aborted"],
  ];
  for (const [endReason, state] of ends) {
    it(`shows an ended run as ${state}`, () => {
      expect(lookOfRun(running({ state: RunState.ENDED, endReason })).state).toBe(state);
    });
  }

  it("never shows an ended run of unknown reason as passed", () => {
    expect(lookOfRun(running({ state: RunState.ENDED })).state).toBe("aborted");
  });
});

describe("clockOf", () => {
  it("ticks while a runner is live", () => {
    const run = running({
      shards: [shard(ShardState.LIVE, start), shard(ShardState.DISCONNECTED, start + 10)],
    });
    expect(clockOf(run, start + 5000)).toEqual({ elapsedMs: 5000, ticking: true });
  });

  it("stops at the moment the last runner was lost", () => {
    const run = running({
      shards: [shard(ShardState.DISCONNECTED, start + 3000), shard(ShardState.DISCONNECTED, start + 2000)],
    });
    expect(clockOf(run, start + 60_000)).toEqual({ elapsedMs: 3000, ticking: false });
  });

  it("goes on for a run that is reported without runners", () => {
    expect(clockOf(running(), start + 700)).toEqual({ elapsedMs: 700, ticking: true });
  });

  it("stops at the end", () => {
    const run = running({ state: RunState.ENDED, endedAt: timestampFromMs(start + 900) });
    expect(clockOf(run, start + 5000)).toEqual({ elapsedMs: 900, ticking: false });
  });
});

describe("progressOf", () => {
  const counts = create(CountsSchema, {
    total: 20,
    passed: 10,
    flaky: 2,
    failed: 1,
    errored: 1,
    timedOut: 1,
    skipped: 2,
    blocked: 1,
    running: 1,
    paused: 1,
    queued: 2,
  });

  it("divides all tests, each into one part", () => {
    const parts = progressOf(counts, 30, true);
    expect(parts).toMatchObject({
      passed: 8,
      flaky: 2,
      failed: 3,
      skipped: 3,
      running: 2,
      remaining: 12,
      done: 16,
      total: 30,
    });
    expect(parts.passed + parts.flaky + parts.failed + parts.skipped + parts.running + parts.remaining).toBe(
      30,
    );
  });

  it("expects nothing more of a run that ended", () => {
    expect(progressOf(counts, 30, false)).toMatchObject({ total: 20, estimated: false });
  });

  it("never expects fewer than there are", () => {
    expect(progressOf(counts, 5, true).total).toBe(20);
  });
});

describe("remainingMs", () => {
  const progress = progressOf(create(CountsSchema, { total: 25, passed: 25 }), 100, true);
  it("goes on at the pace so far", () => {
    expect(remainingMs(progress, { elapsedMs: 10_000, ticking: true }, 100)).toBe(30_000);
  });
  it("guesses nothing while the clock stands or nothing is expected", () => {
    expect(remainingMs(progress, { elapsedMs: 10_000, ticking: false }, 100)).toBeUndefined();
    expect(remainingMs(progress, { elapsedMs: 10_000, ticking: true }, 0)).toBeUndefined();
  });
});

describe("safeLink", () => {
  it("takes http and https", () => {
    expect(safeLink("https://ci.example/job/7")).toBe("https://ci.example/job/7");
    expect(safeLink("http://ci.example/")).toBe("http://ci.example/");
  });
  for (const address of [
    "javascript:alert(1)",
    " javascript:alert(1)",
    "data:text/html,x",
    "//ci.example",
    "/x",
    "",
    "java\nscript:alert(1)",
  ]) {
    it(`makes no link of ${JSON.stringify(address)}`, () => {
      expect(safeLink(address)).toBeUndefined();
    });
  }
});
