import { describe, expect, test } from "vitest";
import {
  type Choice,
  choose,
  type Decision,
  firstChoice,
  type Outcome,
  returnAfterMaxMs,
  returnAfterMs,
  type TransportName,
} from "./carrier";

const both: readonly TransportName[] = ["websocket", "watch"];
const websocket = firstChoice(both, null);
const proven: Choice = { ...websocket, worked: true };
const stream: Choice = { ...websocket, way: "stream", failures: 2 };
const longPoll: Choice = { ...stream, way: "long-poll" };
const off: Choice = { ...websocket, way: "off", returnMs: returnAfterMaxMs };

const failed: Outcome = { kind: "ended", heard: false, silent: false, reason: "" };
const silent: Outcome = { ...failed, silent: true };
const broken: Outcome = { ...failed, heard: true };
const realtimeOff: Outcome = { ...failed, reason: "REALTIME_OFF" };
const transportOff: Outcome = { ...failed, reason: "TRANSPORT_OFF" };

interface Line {
  readonly claim: string;
  readonly from: Choice;
  readonly outcome: Outcome;
  readonly next: Decision["next"];
  readonly to: Partial<Choice>;
}

const table: readonly Line[] = [
  {
    claim: "one websocket that can't be opened is an accident",
    from: websocket,
    outcome: failed,
    next: "wait",
    to: { way: "websocket", failures: 1 },
  },
  {
    claim: "two in a row are a network that blocks them",
    from: { ...websocket, failures: 1 },
    outcome: failed,
    next: "at-once",
    to: { way: "stream", returnMs: 30_000 },
  },
  {
    claim: "one that hangs was waited for long enough",
    from: websocket,
    outcome: silent,
    next: "at-once",
    to: { way: "stream" },
  },
  {
    claim: "one that worked before and broke is no reason",
    from: proven,
    outcome: broken,
    next: "wait",
    to: { way: "websocket", failures: 0 },
  },
  {
    claim: "nor is a server that is away for a moment after that",
    from: { ...proven, failures: 2 },
    outcome: failed,
    next: "wait",
    to: { way: "websocket", failures: 3 },
  },
  {
    claim: "where websockets worked, the way back is tried soon",
    from: { ...proven, failures: 3 },
    outcome: failed,
    next: "at-once",
    to: { way: "stream", returnMs: 5_000 },
  },
  {
    claim: "a welcome forgets the failures",
    from: { ...websocket, failures: 1 },
    outcome: { kind: "welcomed" },
    next: "wait",
    to: { way: "websocket", failures: 0, worked: true },
  },
  {
    claim: "an application that wants only websockets keeps them",
    from: { ...websocket, allowed: ["websocket"], failures: 9 },
    outcome: failed,
    next: "wait",
    to: { way: "websocket", failures: 10 },
  },
  {
    claim: "a stream without a word is one that a proxy holds back",
    from: stream,
    outcome: silent,
    next: "at-once",
    to: { way: "long-poll" },
  },
  {
    claim: "a stream that is refused says that the server is away: the websocket is asked again",
    from: stream,
    outcome: failed,
    next: "wait",
    to: { way: "websocket", failures: 2 },
  },
  {
    claim: "a stream that worked and broke is opened again",
    from: stream,
    outcome: broken,
    next: "wait",
    to: { way: "stream" },
  },
  {
    claim: "so is a stream's welcome remembered as it is",
    from: stream,
    outcome: { kind: "welcomed" },
    next: "wait",
    to: { way: "stream", failures: 2, worked: false },
  },
  {
    claim: "a long poll that fails leads back to the beginning",
    from: longPoll,
    outcome: silent,
    next: "wait",
    to: { way: "websocket" },
  },
  {
    claim: "without websockets the beginning is the stream",
    from: { ...longPoll, allowed: ["watch"] },
    outcome: failed,
    next: "wait",
    to: { way: "stream" },
  },
  {
    claim: "each try to return that fails doubles the wait",
    from: stream,
    outcome: { kind: "return-failed", reason: "" },
    next: "wait",
    to: { way: "stream", returnMs: 60_000 },
  },
  {
    claim: "up to five minutes",
    from: { ...stream, returnMs: 240_000 },
    outcome: { kind: "return-failed", reason: "" },
    next: "wait",
    to: { returnMs: 300_000 },
  },
  {
    claim: "a network that came back is asked at once",
    from: { ...stream, returnMs: 240_000 },
    outcome: { kind: "online" },
    next: "wait",
    to: { way: "stream", returnMs: 1_000 },
  },
  {
    claim: "one that succeeds is the way",
    from: longPoll,
    outcome: { kind: "returned" },
    next: "wait",
    to: { way: "websocket", failures: 0, worked: true, returnMs: returnAfterMs },
  },
  {
    claim: "one that is switched off is not tried again",
    from: stream,
    outcome: { kind: "return-failed", reason: "TRANSPORT_OFF" },
    next: "wait",
    to: { way: "stream", allowed: ["watch"] },
  },
  {
    claim: "websockets switched off lead to the stream at once",
    from: websocket,
    outcome: transportOff,
    next: "at-once",
    to: { way: "stream", allowed: ["watch"] },
  },
  {
    claim: "Watch switched off leads to the websocket at once",
    from: longPoll,
    outcome: transportOff,
    next: "at-once",
    to: { way: "websocket", allowed: ["websocket"] },
  },
  {
    claim: "with both switched off the last one is asked again now and then",
    from: { ...stream, allowed: ["watch"] },
    outcome: transportOff,
    next: "wait",
    to: { way: "stream", allowed: ["watch"] },
  },
  {
    claim: "real-time switched off is polled at once, and the websocket asked every five minutes",
    from: websocket,
    outcome: realtimeOff,
    next: "at-once",
    to: { way: "off", returnMs: 300_000 },
  },
  {
    claim: "polls that fail go on",
    from: off,
    outcome: failed,
    next: "wait",
    to: { way: "off" },
  },
  {
    claim: "polls that are refused don't spin",
    from: off,
    outcome: realtimeOff,
    next: "wait",
    to: { way: "off" },
  },
];

describe("the choice of a carrier", () => {
  test.each(table)("$claim", ({ from, outcome, next, to }) => {
    const decision = choose(from, outcome);
    expect(decision.next).toBe(next);
    expect(decision.choice).toMatchObject(to);
  });

  test("begins with what worked on the page before, if that is allowed", () => {
    const ways = (allowed: readonly TransportName[]) =>
      [null, "stream", "long-poll", "off", "x"].map((saved) => firstChoice(allowed, saved).way);
    expect(ways(both)).toEqual(["websocket", "stream", "long-poll", "websocket", "websocket"]);
    expect(ways(["websocket"])).toEqual(Array(5).fill("websocket"));
    expect(ways(["watch"])).toEqual(["stream", "stream", "long-poll", "stream", "stream"]);
  });

  test("finds the server again from every way, whichever carrier is back first", () => {
    let choice = websocket;
    const tried = new Set<string>();
    for (let i = 0; i < 20; i++) {
      tried.add(choice.way);
      choice = choose(choice, silent).choice;
    }
    expect([...tried].sort()).toEqual(["long-poll", "stream", "websocket"]);
  });
});
