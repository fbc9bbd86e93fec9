import type { Event } from "@tcmanager/gen/tcmanager/v1/event_pb";
import type { User } from "@tcmanager/gen/tcmanager/v1/identity_pb";
import type { Carrier } from "../carrier";
import type { ConnectionStateName } from "../connection";
import type { Environment } from "../environment";
import type { TcmError } from "../errors";
import { describeEvent } from "../rooms/describe";
import type { SessionDriver, SessionStatus } from "../session/driver";
import type { Store } from "../store";
import { Notifier } from "./notifier";

/** How good the connection feels, from ping's round trip and the server's word of lag. */
export type Quality = "good" | "fair" | "poor";

/** One line of the status widget. */
export interface EventRecord {
  /** When it arrived, by this machine's clock. */
  readonly timeMs: number;
  readonly room: string;
  /** The kind of event, for example "testExecution"; "unknown" for one from a newer server. */
  readonly kind: string;
  /** The name of who caused it; empty for the server. */
  readonly actor: string;
  /** One line for people. */
  readonly text: string;
  readonly event: Event;
}

/** ConnectionSnapshot is all a status widget shows. */
export interface ConnectionSnapshot {
  readonly state: ConnectionStateName;
  /** When the state began, by this machine's clock. */
  readonly sinceMs: number;
  /** Attempts in a row that failed; 0 after a while of health. */
  readonly attempt: number;
  /** Whether to say "offline": after some failed attempts, or without a network. Attempts go on. */
  readonly offline: boolean;
  /**
   * How frames travel; undefined while there is no stream. "websocket" at best;
   * "stream", "long-poll" or "poll" where the network or too many tabs don't
   * allow it; "off" when real-time is switched off on the server, which is then
   * asked every 30 s, and on reconnect.
   */
  readonly carrier: Carrier | undefined;
  /** When the next attempt is due; undefined when none is planned. */
  readonly retryAtMs: number | undefined;
  /** Why the connection was lost or closed; undefined while it is up. */
  readonly error: TcmError | undefined;
  /** Round trip of the last ping; undefined before the first. */
  readonly rttMs: number | undefined;
  /** undefined before it is known, and while not connected. */
  readonly quality: Quality | undefined;
  /** How many events the server says are waiting for this client. */
  readonly lag: number;
  /** The server's clock minus this machine's; 0 before it is known. */
  readonly clockOffsetMs: number;
  /** Whom the token names; undefined before the first welcome. */
  readonly user: User | undefined;
  /** The session; empty before the first welcome. */
  readonly sessionId: string;
  /** The server's version; empty before the first welcome. */
  readonly serverVersion: string;
  /** Commands not answered yet, a reload before this one included: "saving", or "unsaved changes" while not connected. */
  readonly unsaved: number;
  /** Events that were ignored, since they broke the protocol: a bug of the server. */
  readonly faults: number;
  /** The newest 20 events of all rooms, newest first, without typing and counts. */
  readonly lastEvents: readonly EventRecord[];
}

/** ConnectionStore is the live state of the connection. */
export interface ConnectionStore extends Store<ConnectionSnapshot> {
  /** Tries at once, whatever was planned; also begins anew after "closed". */
  readonly reconnect: () => void;
}

const keptEvents = 20;

/** Above these round trips people notice, and are hindered (Nielsen's 0.1 s and 1 s, with room for a far server). */
const fairAboveMs = 300;
const poorAboveMs = 1_000;
/** Behind by more than this, what is shown is old news. */
const poorAboveLag = 1_000;

/** qualityOf grades a connection. */
export function qualityOf(rttMs: number, lag: number): Quality {
  if (rttMs > poorAboveMs || lag > poorAboveLag) return "poor";
  return rttMs > fairAboveMs || lag > 0 ? "fair" : "good";
}

/** createConnectionStore follows a session. Call close at the session's end. */
export function createConnectionStore(
  session: SessionDriver,
  environment: Environment,
): ConnectionStore & { readonly close: () => void } {
  // Oldest first, and only trimmed now and then: there may be 50,000 a second.
  const arrived: { readonly timeMs: number; readonly event: Event }[] = [];
  let described: readonly EventRecord[] = [];
  let isDescribed = true;
  const make = (): ConnectionSnapshot => {
    if (!isDescribed) {
      const newest = arrived.slice(-keptEvents).reverse();
      described = newest.map(({ timeMs, event }) => describe(timeMs, event));
      isDescribed = true;
    }
    return toSnapshot(session.status(), described);
  };
  let snapshot = make();
  const notifier = new Notifier(environment, () => {
    snapshot = make();
  });
  const stopStatus = session.onStatus(() => notifier.changed());
  const stopEvents = session.onEvent((event) => {
    if (event.payload.case === "activity" || event.payload.case === "runProgress") return;
    if (arrived.length >= 10 * keptEvents) arrived.splice(0, arrived.length - keptEvents);
    arrived.push({ timeMs: environment.now(), event });
    isDescribed = false;
    notifier.changed();
  });
  return {
    getSnapshot: () => snapshot,
    subscribe: notifier.subscribe,
    reconnect: () => session.reconnect(),
    close: () => {
      stopStatus();
      stopEvents();
      notifier.close();
    },
  };
}

function describe(timeMs: number, event: Event): EventRecord {
  return {
    timeMs,
    room: event.room,
    kind: event.payload.case ?? "unknown",
    actor: event.actor?.name ?? "",
    text: describeEvent(event),
    event,
  };
}

function toSnapshot(status: SessionStatus, lastEvents: readonly EventRecord[]): ConnectionSnapshot {
  const { connection, welcome, rttMs, lag } = status;
  return {
    state: connection.kind,
    sinceMs: status.sinceMs,
    attempt: "attempt" in connection ? connection.attempt : 0,
    offline: status.offline,
    carrier: status.carrier,
    retryAtMs: "retryAtMs" in connection ? connection.retryAtMs : undefined,
    error: "error" in connection ? connection.error : undefined,
    rttMs,
    quality: rttMs === undefined ? undefined : qualityOf(rttMs, lag),
    lag,
    clockOffsetMs: status.clockOffsetMs,
    user: welcome?.user,
    sessionId: welcome?.sessionId ?? "",
    serverVersion: welcome?.serverVersion ?? "",
    unsaved: status.unsaved,
    faults: status.faults,
    lastEvents,
  };
}
