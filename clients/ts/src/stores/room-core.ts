import type { Event } from "@tcmanager/gen/tcmanager/v1/event_pb";
import type { Environment } from "../environment";
import { expireActivity, nextExpiryMs } from "../rooms/activity";
import { emptyRoom, reduceRoom } from "../rooms/room";
import type { JoinOptions, RoomHandle, RoomMessage, Session } from "../session";
import { callSafely } from "../session/call-safely";
import type { RoomSnapshot } from "../store";
import { Notifier } from "./notifier";

/** What makes a room that of a run, a project, a test case or a user. */
export interface Noun<S extends RoomSnapshot> {
  /** Takes a message, after the part that all rooms share. */
  readonly apply: (message: RoomMessage) => void;
  /** The noun's part of the snapshot together with the shared one. */
  readonly snapshot: (room: RoomSnapshot) => S;
  /** The room is left: ends what was begun. */
  readonly stop: () => void;
}

/** What a room needs from its client. */
export interface RoomContext {
  readonly session: Session;
  readonly environment: Environment;
}

/**
 * RoomCore is the live state of one room, shared by all who opened it. It joins
 * on start, feeds what it hears to the reducers, and tells its listeners once a
 * frame.
 */
export class RoomCore<S extends RoomSnapshot, N extends Noun<S>> {
  readonly #context: RoomContext;
  readonly noun: N;
  readonly #notifier: Notifier;
  readonly #eventListeners = new Set<(event: Event) => void>();
  #room: RoomSnapshot = emptyRoom;
  #snapshot: S;
  #handle: RoomHandle | undefined;
  #cancelExpiry: () => void = () => {};
  #stopped: () => void = () => {};

  /** makeNoun gets the function to call when the noun's part changed by itself. */
  constructor(context: RoomContext, makeNoun: (changed: () => void) => N) {
    this.#context = context;
    this.#notifier = new Notifier(context.environment, () => this.#refresh());
    this.noun = makeNoun(() => this.#notifier.changed());
    this.#snapshot = this.noun.snapshot(this.#room);
    this.subscribe = this.#notifier.subscribe;
  }

  readonly subscribe: (listener: () => void) => () => void;

  readonly getSnapshot = (): S => this.#snapshot;

  readonly onEvent = (listener: (event: Event) => void): (() => void) => {
    const own = (event: Event) => listener(event);
    this.#eventListeners.add(own);
    return () => {
      this.#eventListeners.delete(own);
    };
  };

  /** The name of the room; empty before start. */
  get room(): string {
    return this.#handle?.room ?? "";
  }

  /** Joins the room. */
  start(room: string, options: Omit<JoinOptions, "listener"> = {}): void {
    const listener = (message: RoomMessage) => this.#hear(message);
    this.#handle = this.#context.session.join(room, { ...options, listener });
  }

  /** Calls run when the room is stopped; one function at most. */
  onStop(run: () => void): void {
    this.#stopped = run;
  }

  /** Leaves the room for good. */
  stop(): void {
    this.#stopped();
    this.#handle?.leave();
    this.#cancelExpiry();
    this.noun.stop();
    this.#notifier.close();
    this.#eventListeners.clear();
  }

  #hear(message: RoomMessage): void {
    this.#room = reduceRoom(this.#room, message, {
      nowMs: this.#context.environment.now(),
      sessionId: this.#context.session.welcome?.sessionId ?? "",
      userId: this.#context.session.welcome?.user?.id ?? "",
    });
    this.noun.apply(message);
    this.#planExpiry();
    this.#notifier.changed();
    if (message.kind !== "events" || this.#eventListeners.size === 0) return;
    for (const event of message.events) {
      for (const listener of [...this.#eventListeners]) callSafely(() => listener(event));
    }
  }

  #refresh(): void {
    this.#snapshot = this.noun.snapshot(this.#room);
  }

  /** Typing ends by itself: nobody sends word of it. */
  #planExpiry(): void {
    this.#cancelExpiry();
    const next = nextExpiryMs(this.#room.activity);
    if (next === undefined) return;
    const { environment } = this.#context;
    this.#cancelExpiry = environment.after(next - environment.now(), () => {
      this.#room = { ...this.#room, activity: expireActivity(this.#room.activity, environment.now()) };
      this.#planExpiry();
      this.#notifier.changed();
    });
  }
}
