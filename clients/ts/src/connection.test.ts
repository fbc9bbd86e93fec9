import { Code } from "@connectrpc/connect";
import { describe, expect, test } from "vitest";
import {
  backoffMs,
  type ConnectionEffect,
  type ConnectionEvent,
  type ConnectionState,
  isOffline,
  type TransitionContext,
  transition,
} from "./connection";
import { TcmError } from "./errors";

const context: TransitionContext = { nowMs: 1_000_000, random: 0.5, online: true, delayMs: 1_000 };
const offline: TransitionContext = { ...context, online: false };

function error(code: Code, retryAfterMs?: number): TcmError {
  return new TcmError({ code, message: Code[code], retryAfterMs });
}

const away = error(Code.Unavailable);
const fresh = { attempt: 0, refreshed: false };
const idle: ConnectionState = { kind: "idle" };
const connecting: ConnectionState = { kind: "connecting", ...fresh };
const catchingUp: ConnectionState = { kind: "catching-up", ...fresh };
const live: ConnectionState = { kind: "live", ...fresh };
const waiting = { attempt: 1, refreshed: false, retryAtMs: 1_005_000, notBeforeMs: 0, error: away };
const reconnecting: ConnectionState = { kind: "reconnecting", ...waiting };
const suspended: ConnectionState = { kind: "suspended", ...waiting };
const closed: ConnectionState = { kind: "closed", error: away };
const all = [idle, connecting, catchingUp, live, reconnecting, suspended, closed];

const open: readonly ConnectionEffect[] = [{ kind: "cancel-retry" }, { kind: "open", refreshToken: false }];
const openRefreshed: readonly ConnectionEffect[] = [
  { kind: "cancel-retry" },
  { kind: "open", refreshToken: true },
];
const closing: readonly ConnectionEffect[] = [{ kind: "cancel-retry" }, { kind: "close" }];
const closeAndRetry = (delayMs: number): readonly ConnectionEffect[] => [
  { kind: "close" },
  { kind: "schedule-retry", delayMs },
];

interface Line {
  readonly claim: string;
  readonly from: ConnectionState;
  readonly event: ConnectionEvent;
  readonly to: ConnectionState;
  readonly effects?: readonly ConnectionEffect[];
  readonly context?: TransitionContext;
}

const table: readonly Line[] = [
  { claim: "starts once", from: idle, event: { kind: "start" }, to: connecting, effects: open },
  {
    claim: "is live with the welcome when no room waits",
    from: connecting,
    event: { kind: "welcomed", roomsPending: false },
    to: live,
    effects: [{ kind: "watch-health" }],
  },
  {
    claim: "catches up with the welcome when rooms wait",
    from: connecting,
    event: { kind: "welcomed", roomsPending: true },
    to: catchingUp,
    effects: [{ kind: "watch-health" }],
  },
  {
    claim: "another carrier is tried at once, and counts as the same attempt",
    from: { kind: "connecting", attempt: 2, refreshed: true },
    event: { kind: "switch" },
    to: { kind: "connecting", attempt: 2, refreshed: true },
    effects: open,
  },
  { claim: "is live when it has caught up", from: catchingUp, event: { kind: "caught-up" }, to: live },
  {
    claim: "a lost connection waits a jittered second",
    from: live,
    event: { kind: "lost", error: away },
    to: {
      kind: "reconnecting",
      attempt: 1,
      refreshed: false,
      retryAtMs: 1_000_500,
      notBeforeMs: 0,
      error: away,
    },
    effects: closeAndRetry(500),
  },
  {
    claim: "a server that accepts and drops is left alone for longer each time",
    from: { kind: "live", attempt: 3, refreshed: false },
    event: { kind: "lost", error: away },
    to: {
      kind: "reconnecting",
      attempt: 4,
      refreshed: false,
      retryAtMs: 1_004_000,
      notBeforeMs: 0,
      error: away,
    },
    effects: closeAndRetry(4_000),
  },
  {
    claim: "a while of health forgets earlier failures",
    from: { kind: "live", attempt: 3, refreshed: true },
    event: { kind: "healthy" },
    to: live,
  },
  {
    claim: "a loss without a network suspends, and still tries now and then",
    from: live,
    event: { kind: "lost", error: away },
    context: offline,
    to: {
      kind: "suspended",
      attempt: 1,
      refreshed: false,
      retryAtMs: 1_030_000,
      notBeforeMs: 0,
      error: away,
    },
    effects: closeAndRetry(30_000),
  },
  {
    claim: "tries when the time has come",
    from: reconnecting,
    event: { kind: "retry-due" },
    to: { kind: "connecting", attempt: 1, refreshed: false },
    effects: open,
  },
  {
    claim: "tries while suspended, too",
    from: suspended,
    event: { kind: "retry-due" },
    to: { kind: "connecting", attempt: 1, refreshed: false },
    effects: open,
  },
  {
    claim: "tries at once when the network is back",
    from: suspended,
    event: { kind: "online" },
    to: { kind: "connecting", attempt: 1, refreshed: false },
    effects: open,
  },
  {
    claim: "tries at once when the page is looked at",
    from: reconnecting,
    event: { kind: "visible" },
    to: { kind: "connecting", attempt: 1, refreshed: false },
    effects: open,
  },
  {
    claim: "stays suspended when the page is looked at without a network",
    from: suspended,
    event: { kind: "visible" },
    context: offline,
    to: suspended,
  },
  {
    claim: "probes when the page is looked at: its timers may have slept",
    from: live,
    event: { kind: "visible" },
    to: live,
    effects: [{ kind: "probe" }],
  },
  {
    claim: "does not believe in a lost network without a probe",
    from: live,
    event: { kind: "offline" },
    to: live,
    effects: [{ kind: "probe" }],
  },
  {
    claim: "stops trying when the network goes while waiting",
    from: reconnecting,
    event: { kind: "offline" },
    to: { ...waiting, kind: "suspended", retryAtMs: 1_030_000 },
    effects: [{ kind: "schedule-retry", delayMs: 30_000 }],
  },
  {
    claim: "a person's wish comes at once",
    from: reconnecting,
    event: { kind: "reconnect" },
    to: { kind: "connecting", attempt: 1, refreshed: false },
    effects: open,
  },
  {
    claim: "a person's wish begins anew after the end",
    from: closed,
    event: { kind: "reconnect" },
    to: connecting,
    effects: open,
  },
  {
    claim: "a person's wish after a refused token asks for another",
    from: { kind: "closed", error: error(Code.Unauthenticated) },
    event: { kind: "reconnect" },
    to: { kind: "connecting", attempt: 0, refreshed: true },
    effects: openRefreshed,
  },
];

describe("the connection", () => {
  test.each(table)("$claim", ({ from, event, to, effects = [], context: given = context }) => {
    expect(transition(from, event, given)).toEqual({ state: to, effects });
  });

  test("closes from every state when the application is done", () => {
    for (const state of all) {
      expect(transition(state, { kind: "stop" }, context)).toEqual({
        state: { kind: "closed", error: undefined },
        effects: closing,
      });
    }
  });

  test("waits as long as the server says when it goes away, and keeps the stream until then", () => {
    const gone = transition(live, { kind: "going-away", afterMs: 7_000 }, context);
    expect(gone.state).toMatchObject({
      kind: "reconnecting",
      attempt: 0,
      retryAtMs: 1_007_000,
      notBeforeMs: 1_007_000,
    });
    expect(gone.effects).toEqual([{ kind: "schedule-retry", delayMs: 7_000 }]);
    expect(
      transition(gone.state, { kind: "lost", error: away }, context).state,
      "its end changes nothing",
    ).toBe(gone.state);
    expect(transition(gone.state, { kind: "visible" }, context).state, "nor does a look at it").toBe(
      gone.state,
    );
    const later = { ...context, nowMs: 1_007_000 };
    expect(transition(gone.state, { kind: "visible" }, later).state.kind).toBe("connecting");
  });

  test("does not come back before an error's retry_after, however the dice fall", () => {
    const busy = error(Code.ResourceExhausted, 9_000);
    const { state } = transition(live, { kind: "lost", error: busy }, { ...context, random: 0 });
    expect(state).toMatchObject({ kind: "reconnecting", retryAtMs: 1_009_000, notBeforeMs: 1_009_000 });
  });

  test("asks for one new token when refused, and closes when that is refused, too", () => {
    const refused = error(Code.Unauthenticated);
    const again = transition(live, { kind: "lost", error: refused }, context);
    expect(again).toEqual({
      state: { kind: "connecting", attempt: 0, refreshed: true },
      effects: openRefreshed,
    });
    expect(transition(again.state, { kind: "lost", error: refused }, context)).toEqual({
      state: { kind: "closed", error: refused },
      effects: closing,
    });
  });

  test("a network failure in between does not earn another new token", () => {
    const refused = error(Code.Unauthenticated);
    let { state } = transition(connecting, { kind: "lost", error: refused }, context);
    state = transition(state, { kind: "lost", error: away }, context).state;
    state = transition(state, { kind: "retry-due" }, context).state;
    expect(transition(state, { kind: "lost", error: refused }, context).state.kind).toBe("closed");
  });

  test.each([Code.PermissionDenied, Code.InvalidArgument, Code.Unimplemented])(
    "never retries code %i",
    (code) => {
      const final = error(code);
      for (const state of [connecting, catchingUp, live]) {
        expect(transition(state, { kind: "lost", error: final }, context)).toEqual({
          state: { kind: "closed", error: final },
          effects: closing,
        });
      }
    },
  );

  test("says offline after five failures in a row, and goes on", () => {
    let state: ConnectionState = connecting;
    for (let failures = 1; failures <= 8; failures++) {
      state = transition(state, { kind: "lost", error: away }, context).state;
      expect(isOffline(state), `after ${failures}`).toBe(failures >= 5);
      state = transition(state, { kind: "retry-due" }, context).state;
      expect(isOffline(state)).toBe(failures >= 5);
    }
    expect(state.kind).toBe("connecting");
  });

  test("is unmoved by events that mean nothing in a state", () => {
    const meaningless: readonly [ConnectionState, ConnectionEvent][] = [
      [live, { kind: "start" }],
      [closed, { kind: "start" }],
      [live, { kind: "welcomed", roomsPending: true }],
      [closed, { kind: "welcomed", roomsPending: true }],
      [idle, { kind: "lost", error: away }],
      [closed, { kind: "lost", error: away }],
      [reconnecting, { kind: "switch" }],
      [closed, { kind: "switch" }],
      [live, { kind: "retry-due" }],
      [closed, { kind: "retry-due" }],
      [closed, { kind: "online" }],
      [idle, { kind: "visible" }],
      [connecting, { kind: "healthy" }],
      [connecting, { kind: "offline" }],
      [closed, { kind: "going-away", afterMs: 1 }],
    ];
    for (const [state, event] of meaningless) {
      expect(transition(state, event, context)).toEqual({ state, effects: [] });
    }
  });
});

describe("what an application may set", () => {
  test("the first attempt's longest wait", () => {
    const { effects } = transition(live, { kind: "lost", error: away }, { ...context, delayMs: 200 });
    expect(effects).toEqual(closeAndRetry(100));
  });

  test("after how many attempts people are told", () => {
    const second: ConnectionState = { ...reconnecting, attempt: 2 };
    expect([isOffline(second, 2), isOffline(second, 3)]).toEqual([true, false]);
  });
});

describe("the backoff", () => {
  test("is drawn from zero to twice as much each time, at most 20 s", () => {
    const highest = [0, 1, 2, 3, 4, 5, 50].map((attempt) => backoffMs(attempt, 1));
    expect(highest).toEqual([1_000, 2_000, 4_000, 8_000, 16_000, 20_000, 20_000]);
    expect(backoffMs(7, 0)).toBe(0);
  });
});
