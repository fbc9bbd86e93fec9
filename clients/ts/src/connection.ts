/**
 * The life of a connection as a pure state machine: events go in, the next state
 * and effects come out. Whoever drives it (see session.ts) carries the effects
 * out and reports what came of them as further events. Time, chance and whether
 * there is a network are given, so each rule stands in a table of the test.
 */
import { Code } from "@connectrpc/connect";
import type { TcmError } from "./errors";

/** The first attempt waits at most this long by default, the next ones twice as long each. */
export const defaultDelayMs = 1_000;
/** No attempt waits longer than this of its own accord. */
export const backoffCapMs = 20_000;
/** A connection must hold this long before earlier failures are forgotten: a server that accepts and drops is not healthy. */
export const healthyAfterMs = 10_000;
/** After so many failed attempts in a row people are told "offline", by default. Attempts go on. */
export const defaultAttempts = 5;
/** Browsers are wrong about having no network now and then (a loopback server, a VPN): try all the same, seldom. */
export const suspendedRetryMs = 30_000;

interface Trying {
  /** Attempts in a row that failed. */
  readonly attempt: number;
  /** Whether a new token was asked for since the last healthy connection: a second refusal is final. */
  readonly refreshed: boolean;
}

interface Waiting extends Trying {
  /** When the next attempt is due. */
  readonly retryAtMs: number;
  /** The server asked not to come back before this; 0 if it didn't ask. */
  readonly notBeforeMs: number;
  /** Why the connection is away; undefined when the server asked to reconnect. */
  readonly error: TcmError | undefined;
}

/** Nothing was asked for yet. */
export interface Idle {
  readonly kind: "idle";
}

/** A stream is being opened; it is up with the server's welcome. */
export interface Connecting extends Trying {
  readonly kind: "connecting";
}

/** The stream is up; what was missed is on its way. */
export interface CatchingUp extends Trying {
  readonly kind: "catching-up";
}

/** The stream is up and every room is current. */
export interface Live extends Trying {
  readonly kind: "live";
}

/** The next attempt has a time. */
export interface Reconnecting extends Waiting {
  readonly kind: "reconnecting";
}

/** The browser says there is no network; it goes on as soon as there is. */
export interface Suspended extends Waiting {
  readonly kind: "suspended";
}

/** Nothing is tried again by itself. */
export interface Closed {
  readonly kind: "closed";
  /** Why; undefined when the application closed it. */
  readonly error: TcmError | undefined;
}

export type ConnectionState = Idle | Connecting | CatchingUp | Live | Reconnecting | Suspended | Closed;

/** The names of a connection's states. */
export type ConnectionStateName = ConnectionState["kind"];

export type ConnectionEvent =
  /** There is something to do. */
  | { readonly kind: "start" }
  /** The application is done. */
  | { readonly kind: "stop" }
  /** A person wants it now. */
  | { readonly kind: "reconnect" }
  /** The server's welcome; roomsPending says whether rooms wait for their state. */
  | { readonly kind: "welcomed"; readonly roomsPending: boolean }
  /** Every room is current. */
  | { readonly kind: "caught-up" }
  /** The stream has been up for healthyAfterMs. */
  | { readonly kind: "healthy" }
  /** The stream ended, or never came up. */
  | { readonly kind: "lost"; readonly error: TcmError }
  /** The server is about to stop, and gave this client a delay of its own. */
  | { readonly kind: "going-away"; readonly afterMs: number }
  /** The carrier in use won't do, and there is another to try at once. */
  | { readonly kind: "switch" }
  /** The time of the next attempt has come. */
  | { readonly kind: "retry-due" }
  /** The browser says there is a network again. */
  | { readonly kind: "online" }
  /** The browser says there is none. */
  | { readonly kind: "offline" }
  /** The page is looked at again; its timers may have slept. */
  | { readonly kind: "visible" };

export type ConnectionEffect =
  /** Ends the stream, if any, and opens another, with a new token if refreshToken. */
  | { readonly kind: "open"; readonly refreshToken: boolean }
  /** Ends the stream, if any. */
  | { readonly kind: "close" }
  /** Reports retry-due after delayMs; replaces an earlier one. */
  | { readonly kind: "schedule-retry"; readonly delayMs: number }
  | { readonly kind: "cancel-retry" }
  /** Reports healthy after healthyAfterMs, unless the stream ends before. */
  | { readonly kind: "watch-health" }
  /** Asks for a sign of life at once. */
  | { readonly kind: "probe" };

/** What a transition may look at beside state and event. */
export interface TransitionContext {
  readonly nowMs: number;
  /** From 0 up to, not including, 1. */
  readonly random: number;
  /** What the browser says. */
  readonly online: boolean;
  /** The most that the first attempt waits. */
  readonly delayMs: number;
}

export interface Transition {
  readonly state: ConnectionState;
  readonly effects: readonly ConnectionEffect[];
}

/** transition is the whole machine. An event that means nothing in a state leaves it as it is. */
export function transition(
  state: ConnectionState,
  event: ConnectionEvent,
  context: TransitionContext,
): Transition {
  switch (event.kind) {
    case "start":
      return state.kind === "idle" ? connect(0, false) : stay(state);
    case "stop":
      return close(undefined);
    case "reconnect":
      return reconnect(state);
    case "welcomed":
      if (state.kind !== "connecting") return stay(state);
      return up(state, event.roomsPending ? "catching-up" : "live", [{ kind: "watch-health" }]);
    case "caught-up":
      return state.kind === "catching-up" ? up(state, "live", []) : stay(state);
    case "healthy":
      if (state.kind !== "live" && state.kind !== "catching-up") return stay(state);
      return { state: { ...state, attempt: 0, refreshed: false }, effects: [] };
    case "lost":
      return hasStream(state) ? lost(state, event.error, context) : stay(state);
    case "going-away":
      return hasStream(state) ? goingAway(state, event.afterMs, context) : stay(state);
    case "switch":
      return hasStream(state) ? connect(state.attempt, state.refreshed) : stay(state);
    case "retry-due":
      return isWaiting(state) ? connect(state.attempt, state.refreshed) : stay(state);
    case "online":
    case "visible":
      return wake(state, event.kind === "online" || context.online, context.nowMs);
    case "offline":
      return networkGone(state, context.nowMs);
    default:
      event satisfies never;
      return stay(state);
  }
}

/** backoffMs draws the wait before the next attempt: full jitter, so that a crowd does not come back at once. */
export function backoffMs(attempt: number, random: number, delayMs = defaultDelayMs): number {
  return random * Math.min(backoffCapMs, delayMs * 2 ** attempt);
}

/** isOffline says whether to tell people that there is no connection: after so many attempts, or without a network. */
export function isOffline(state: ConnectionState, attempts = defaultAttempts): boolean {
  switch (state.kind) {
    case "idle":
    case "live":
    case "catching-up":
    case "closed":
      return false;
    case "suspended":
      return true;
    case "connecting":
    case "reconnecting":
      return state.attempt >= attempts;
    default:
      state satisfies never;
      return false;
  }
}

function stay(state: ConnectionState): Transition {
  return { state, effects: [] };
}

function connect(attempt: number, refreshed: boolean, refreshToken = false): Transition {
  return {
    state: { kind: "connecting", attempt, refreshed },
    effects: [{ kind: "cancel-retry" }, { kind: "open", refreshToken }],
  };
}

function up(state: Trying, kind: "catching-up" | "live", effects: readonly ConnectionEffect[]): Transition {
  return { state: { kind, attempt: state.attempt, refreshed: state.refreshed }, effects };
}

function close(error: TcmError | undefined): Transition {
  return { state: { kind: "closed", error }, effects: [{ kind: "cancel-retry" }, { kind: "close" }] };
}

function reconnect(state: ConnectionState): Transition {
  switch (state.kind) {
    case "idle":
      return connect(0, false);
    case "closed": {
      const refused = state.error?.code === Code.Unauthenticated;
      return connect(0, refused, refused);
    }
    case "connecting":
    case "catching-up":
    case "live":
    case "reconnecting":
    case "suspended":
      return connect(state.attempt, state.refreshed);
    default:
      state satisfies never;
      return stay(state);
  }
}

type WithStream = Connecting | CatchingUp | Live;

function hasStream(state: ConnectionState): state is WithStream {
  return state.kind === "connecting" || state.kind === "catching-up" || state.kind === "live";
}

function isWaiting(state: ConnectionState): state is Reconnecting | Suspended {
  return state.kind === "reconnecting" || state.kind === "suspended";
}

function lost(state: WithStream, error: TcmError, context: TransitionContext): Transition {
  switch (verdict(error.code)) {
    case "terminal":
      return close(error);
    case "refresh":
      // Refused with a token that was asked for just now: no other will do.
      return state.refreshed ? close(error) : connect(state.attempt, true, true);
    case "transient": {
      const delayMs = Math.max(
        error.retryAfterMs ?? 0,
        backoffMs(state.attempt, context.random, context.delayMs),
      );
      return wait({ ...state, attempt: state.attempt + 1 }, delayMs, error, context);
    }
  }
}

/** goingAway keeps the stream, which still delivers, until it is time to open the next or it ends. */
function goingAway(state: WithStream, afterMs: number, context: TransitionContext): Transition {
  const retryAtMs = context.nowMs + afterMs;
  const { attempt, refreshed } = state;
  return {
    state: { kind: "reconnecting", attempt, refreshed, retryAtMs, notBeforeMs: retryAtMs, error: undefined },
    effects: [{ kind: "schedule-retry", delayMs: afterMs }],
  };
}

function wait(trying: Trying, delayMs: number, error: TcmError, context: TransitionContext): Transition {
  const { attempt, refreshed } = trying;
  const { nowMs } = context;
  const notBeforeMs = error.retryAfterMs === undefined ? 0 : nowMs + error.retryAfterMs;
  const kind = context.online ? "reconnecting" : "suspended";
  const waitMs = context.online ? delayMs : Math.max(delayMs, suspendedRetryMs);
  return {
    state: { kind, attempt, refreshed, retryAtMs: nowMs + waitMs, notBeforeMs, error },
    effects: [{ kind: "close" }, { kind: "schedule-retry", delayMs: waitMs }],
  };
}

function wake(state: ConnectionState, online: boolean, nowMs: number): Transition {
  switch (state.kind) {
    case "idle":
    case "closed":
    case "connecting":
      return stay(state);
    case "catching-up":
    case "live":
      return { state, effects: [{ kind: "probe" }] };
    case "reconnecting":
      return nowMs >= state.notBeforeMs ? connect(state.attempt, state.refreshed) : stay(state);
    case "suspended": {
      if (!online) return stay(state);
      if (nowMs >= state.notBeforeMs) return connect(state.attempt, state.refreshed);
      const retryAtMs = state.notBeforeMs;
      return {
        state: { ...state, kind: "reconnecting", retryAtMs },
        effects: [{ kind: "schedule-retry", delayMs: retryAtMs - nowMs }],
      };
    }
    default:
      state satisfies never;
      return stay(state);
  }
}

function networkGone(state: ConnectionState, nowMs: number): Transition {
  switch (state.kind) {
    case "idle":
    case "closed":
    case "connecting":
    case "suspended":
      return stay(state);
    case "catching-up":
    case "live":
      // Not believed without a look: the server may be on this machine.
      return { state, effects: [{ kind: "probe" }] };
    case "reconnecting": {
      const retryAtMs = Math.max(state.retryAtMs, nowMs + suspendedRetryMs);
      return {
        state: { ...state, kind: "suspended", retryAtMs },
        effects: [{ kind: "schedule-retry", delayMs: retryAtMs - nowMs }],
      };
    }
    default:
      state satisfies never;
      return stay(state);
  }
}

/** verdict says what an error means for the connection. What isn't listed is worth another try. */
function verdict(code: Code): "terminal" | "refresh" | "transient" {
  switch (code) {
    case Code.Unauthenticated:
      return "refresh";
    case Code.PermissionDenied:
    case Code.InvalidArgument:
    case Code.Unimplemented:
      return "terminal";
    default:
      return "transient";
  }
}
