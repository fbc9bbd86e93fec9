// How long a page is busy with 50,000 events and 50,000 rows, and what they
// weigh. Prints figures and asserts nothing: machines differ. npm run bench
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { EventSchema } from "@tcmanager/gen/tcmanager/v1/event_pb";
import {
  ListResultsResponseSchema,
  RunSchema,
  RunState,
  Status,
} from "@tcmanager/gen/tcmanager/v1/execution_pb";
import { SubscribeResponseSchema } from "@tcmanager/gen/tcmanager/v1/realtime_pb";
import { test } from "vitest";
import { RunRoom } from "../src/rooms/run";
import { Rooms } from "../src/session/rooms";
import { FakeRun } from "../src/testing";

const total = 50_000;
const room = "testrun:01900000-0000-7000-8000-000000000001";

function time<T>(what: string, run: () => T): T {
  const start = process.cpuUsage();
  const result = run();
  const { user, system } = process.cpuUsage(start);
  // Processor time, also of the collector's threads: the clock of a busy machine says little.
  console.log(`${what}: ${((user + system) / 1000).toFixed(0)} ms`);
  return result;
}

function heapMiB(): number {
  for (let i = 0; i < 3; i++) globalThis.gc?.();
  return process.memoryUsage().heapUsed / 2 ** 20;
}

function makePages(): Uint8Array[] {
  const run = new FakeRun(create(RunSchema, { id: "r", state: RunState.RUNNING }));
  let offset = 0n;
  run.seed(total, 200, () => ++offset);
  const pages: Uint8Array[] = [];
  for (let token = "0"; token !== ""; ) {
    const page = run.page(5000, token);
    pages.push(toBinary(ListResultsResponseSchema, page));
    token = page.nextPageToken;
  }
  return pages;
}

function makeFrames(): Uint8Array[] {
  const frames: Uint8Array[] = [];
  for (let at = 0; at < total; at += 500) {
    const events = Array.from({ length: 500 }, (_, k) => {
      const i = at + k;
      const test = {
        suite: `example.org/seeded/pkg${i % 250}`,
        name: `TestLive/case_${i}`,
        parent: "TestLive",
      };
      const status = i % 200 === 0 ? Status.FAILED : Status.PASSED;
      const error =
        status === Status.FAILED ? { error: { message: "got 1, want 2", details: "x".repeat(500) } } : {};
      return create(EventSchema, {
        room,
        offset: BigInt(total + i + 1),
        epoch: 1n,
        payload: { case: "testExecution", value: { test, status, attempt: 1, durationMs: 1.5, ...error } },
      });
    });
    frames.push(toBinary(SubscribeResponseSchema, create(SubscribeResponseSchema, { events })));
  }
  return frames;
}

test("a run of 50,000 tests", () => {
  const pages = makePages();
  const frames = makeFrames();
  const before = heapMiB();
  const run = new RunRoom();
  time(`decode and merge ${total} rows in ${pages.length} pages`, () => {
    for (const page of pages) run.addPage(fromBinary(ListResultsResponseSchema, page));
    run.rowsComplete();
    run.snapshot();
  });
  console.log(`heap of ${total} rows: ${(heapMiB() - before).toFixed(1)} MiB`);

  const rooms = new Rooms();
  const joined = rooms.add(room, undefined, false);
  joined.joined = true;
  joined.listeners.add((message) => run.apply(message));
  const decoded = time(`decode ${total} events in ${frames.length} frames`, () =>
    frames.map((frame) => fromBinary(SubscribeResponseSchema, frame)),
  );
  time(`apply ${total} events, a snapshot each frame`, () => {
    for (const { events } of decoded) {
      rooms.deliver(events);
      run.snapshot();
    }
  });
  const { rows, failures, suites } = run.snapshot();
  console.log(`${rows.length} rows, ${failures.length} failures, ${suites.size} suites`);
  time("the changes since the rows were loaded", () => rows.changesSince(total));
  decoded.length = 0;
  console.log(`heap of ${rows.length} rows: ${(heapMiB() - before).toFixed(1)} MiB`);
}, 120_000);
