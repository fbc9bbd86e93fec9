import type { Event } from "@tcmanager/gen/tcmanager/v1/event_pb";
import type { User } from "@tcmanager/gen/tcmanager/v1/identity_pb";
import type { ConnectionStateName } from "../connection";
import type { TcmError } from "../errors";
import type { Store } from "../store";

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
  /** Whether to say "offline": after five failed attempts, or without a network. Attempts go on. */
  readonly offline: boolean;
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
  /** Commands sent but not answered yet: "saving", or "unsaved changes" while not connected. */
  readonly unsaved: number;
  /** The newest 20 events of all rooms, newest first. */
  readonly lastEvents: readonly EventRecord[];
}

/** ConnectionStore is the live state of the connection. */
export interface ConnectionStore extends Store<ConnectionSnapshot> {
  /** Tries at once, whatever was planned; also begins anew after "closed". */
  readonly reconnect: () => void;
}
