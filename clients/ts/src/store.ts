import type { Presence } from "@tcmanager/gen/tcmanager/v1/collaboration_pb";
import type { Event } from "@tcmanager/gen/tcmanager/v1/event_pb";
import type { TcmError } from "./errors";
import type { FieldActivity } from "./rooms/activity";

/**
 * Store is a value that changes, in the shape React's useSyncExternalStore
 * wants. Both functions are bound: they may be passed on by themselves.
 */
export interface Store<S> {
  /** The newest snapshot; the same object until something changed. */
  readonly getSnapshot: () => S;
  /**
   * Calls listener after each change, batched to at most one call an animation
   * frame (50 ms where there are none). Returns the function that ends it.
   */
  readonly subscribe: (listener: () => void) => () => void;
}

/**
 * How far a room's snapshot can be trusted: "loading" before the first one,
 * "live" while events arrive, "stale" while the connection is away (the last
 * state stays to be read), "failed" when the room was refused or taken away;
 * the error says why, and it is not tried again.
 */
export type RoomState = "loading" | "live" | "stale" | "failed";

/** What the snapshots of all rooms share. */
export interface RoomSnapshot {
  readonly state: RoomState;
  /** Why the state is "failed"; undefined otherwise. */
  readonly error: TcmError | undefined;
  /**
   * Who is in the room, by name; those who left are not in it. Of more than 200
   * people it is 200 and the user: headcountOf says how many there are.
   */
  readonly presence: readonly Presence[];
  /** How many people are in a room that has more than are told of; 0 if presence has them all. */
  readonly crowd: number;
  /** What other sessions are doing, including the user's own other tabs. Typing ends by itself. */
  readonly activity: readonly FieldActivity[];
  /** The room's durable events, newest first, at most 50: the activity feed. */
  readonly recent: readonly Event[];
}

/** RoomStore is the live state of one room. */
export interface RoomStore<S extends RoomSnapshot> extends Store<S> {
  /** The name of the room as it was asked for, for example "testrun:0190...". */
  readonly room: string;
  /**
   * Calls listener with each event of the room right after it was applied,
   * unbatched and never twice; not for those in the snapshot. For toasts and
   * the like. Returns the function that ends it.
   */
  readonly onEvent: (listener: (event: Event) => void) => () => void;
  /**
   * Gives the store back. The room is left a few seconds after the last holder
   * closed it, so that a page that comes back at once finds it warm.
   */
  readonly close: () => void;
}
