import { create } from "@bufbuild/protobuf";
import { type Event, EventSchema } from "@tcmanager/gen/tcmanager/v1/event_pb";
import { JoinedSchema } from "@tcmanager/gen/tcmanager/v1/realtime_pb";
import { expect, test } from "vitest";
import { TestEnvironment } from "../testing";
import { countsLateMs, Recount } from "./recount";

/** A recount whose calls end when the test says so. */
function setup() {
  const environment = new TestEnvironment(0);
  const calls: { readonly answer: (value: string) => void; readonly fail: (error: Error) => void }[] = [];
  const applied: string[] = [];
  const recount = new Recount<string>(
    environment,
    () => new Promise((answer, fail) => calls.push({ answer, fail })),
    (answer) => applied.push(answer),
  );
  const hear = (...kinds: readonly ("testExecution" | "runProgress")[]) =>
    recount.hear({ kind: "events", events: kinds.map(eventOf) });
  const join = (recovered: boolean) =>
    recount.hear({ kind: "joined", joined: create(JoinedSchema, { recovered }) });
  const late = async () => {
    environment.advance(countsLateMs);
    await new Promise((resolve) => setImmediate(resolve));
  };
  return { recount, hear, join, late, calls, applied };
}

function eventOf(kind: "testExecution" | "runProgress"): Event {
  return create(EventSchema, { payload: { case: kind, value: {} } });
}

test("results without counts are asked about, once", async () => {
  const { hear, late, calls, applied } = setup();
  hear("testExecution");
  hear("testExecution");
  await late();
  expect(calls.length).toBe(1);
  calls[0]?.answer("a");
  await late();
  expect([applied, calls.length]).toEqual([["a"], 1]);
});

test("an answer is of no use once counts came, and is asked for again if results did", async () => {
  const { hear, late, calls, applied } = setup();
  hear("testExecution");
  await late();
  hear("testExecution", "runProgress");
  calls[0]?.answer("old");
  await late();
  expect([applied, calls.length]).toEqual([[], 1]);
  hear("runProgress", "testExecution");
  await late();
  hear("testExecution");
  calls[1]?.answer("b");
  await late();
  await late();
  expect([applied, calls.length]).toEqual([["b"], 3]);
});

test("counts that were heard while all were asked about make it ask anew", async () => {
  const { recount, late, calls, applied } = setup();
  recount.askAnew();
  await late();
  expect(calls.length).toBe(0);
  recount.doubt();
  await late();
  recount.askAnew();
  calls[0]?.answer("old");
  await late();
  calls[1]?.answer("new");
  await late();
  expect([applied, calls.length]).toEqual([["new"], 2]);
});

test("where asking fails it is done after the next join, unless that brings a snapshot", async () => {
  const { hear, join, late, calls, applied } = setup();
  hear("testExecution");
  await late();
  for (let tries = 0; tries < 6; tries++) {
    calls.at(-1)?.fail(new Error("no network"));
    await new Promise((resolve) => setImmediate(resolve));
    for (let i = 0; i < 80; i++) await late(); // longer than any wait between two tries
  }
  expect(calls.length).toBe(6);
  join(true);
  await late();
  calls[6]?.answer("a");
  await late();
  expect(applied).toEqual(["a"]);
  hear("testExecution");
  join(false);
  await late();
  expect(calls.length).toBe(7);
});
