import { type Client, Code } from "@connectrpc/connect";
import { type ActivityState, PresenceState } from "@tcmanager/gen/tcmanager/v1/collaboration_pb";
import type { Command } from "@tcmanager/gen/tcmanager/v1/command_pb";
import type { Event } from "@tcmanager/gen/tcmanager/v1/event_pb";
import type {
  Evicted,
  GoingAway,
  Joined,
  RealtimeService,
  SubscribeResponse,
  Welcome,
} from "@tcmanager/gen/tcmanager/v1/realtime_pb";
import type { Carrier, TransportName } from "../carrier";
import {
  backoffMs,
  type ConnectionEffect,
  type ConnectionEvent,
  type ConnectionState,
  healthyAfterMs,
  isOffline,
  transition,
} from "../connection";
import type { Environment, WakeSignal } from "../environment";
import { fromErrorMessage, TcmError, unavailable } from "../errors";
import type {
  CommandAnswer,
  CommandInit,
  DroppedCommand,
  JoinOptions,
  KeyValueStorage,
  RoomHandle,
  RoomMessage,
  Session,
  TokenSource,
} from "../session";
import { durationToMs, timestampToMs } from "../time";
import { callSafely, report } from "./call-safely";
import { Carriers } from "./carriers";
import { Commands } from "./commands";
import { Handover } from "./handover";
import { type Asked, Link } from "./link";
import { PresenceWatch } from "./presence";
import { type Cursor, type Room, Rooms } from "./rooms";
import { save, takeSaved } from "./saved-state";
import type { RequestFrame, SessionStream, StreamListener } from "./stream";

/** What there is to know about a session at a moment. */
export interface SessionStatus {
  readonly connection: ConnectionState;
  /** Whether to tell people that there is no connection. */
  readonly offline: boolean;
  /** How frames travel; undefined while there is no stream. */
  readonly carrier: Carrier | undefined;
  /** When the connection's state began. */
  readonly sinceMs: number;
  readonly welcome: Welcome | undefined;
  readonly rttMs: number | undefined;
  readonly lag: number;
  readonly clockOffsetMs: number;
  readonly unsaved: number;
  /** Events that were ignored, since they broke the rules of their delivery class. */
  readonly faults: number;
}

/** What a session is made of. */
export interface SessionOptions {
  readonly client: Client<typeof RealtimeService>;
  readonly token: TokenSource;
  readonly environment: Environment;
  readonly clientName: string;
  readonly storage: KeyValueStorage | undefined;
  readonly noDelay: boolean;
  readonly transports: readonly TransportName[];
  /** How long an attempt may take until the server's welcome. */
  readonly timeoutMs: number;
  /** After how many failed attempts people are told. */
  readonly attempts: number;
  /** The longest wait before the first attempt. */
  readonly delayMs: number;
}

/** The server repeats its word of lag while it holds; without news it is over. */
const lagHoldsMs = 10_000;

/** Of a server that breaks the rules, so many different breaches are reported. */
const maxReported = 20;

/**
 * SessionDriver runs a session: it carries out what the state machine of
 * connection.ts decides, and tells it what happened.
 *
 * # Order
 *
 * Everything happens in the order of the stream's frames, synchronously within
 * the arrival of one. Listeners may call back into the session.
 */
export class SessionDriver implements Session {
  readonly #options: SessionOptions;
  readonly #environment: Environment;
  readonly #rooms = new Rooms();
  readonly #commands: Commands;
  readonly #carriers: Carriers;
  readonly #presence: PresenceWatch;
  readonly #handover: Handover;
  readonly #eventListeners = new Set<(event: Event) => void>();
  readonly #statusListeners = new Set<() => void>();
  readonly #lag = new Map<string, number>();
  readonly #reported = new Set<string>();
  readonly #savedCursors: Map<string, Cursor>;
  readonly #stopSignals: () => void;
  #state: ConnectionState = { kind: "idle" };
  #sinceMs: number;
  #link: Link | undefined;
  #sessionId: string;
  #rttMs: number | undefined;
  #clockOffsetMs = 0;
  #faults = 0;
  #cancelRetry: () => void = () => {};
  #cancelStreamTimer: () => void = () => {};
  #cancelLag: () => void = () => {};
  #stopped = false;
  welcome: Welcome | undefined;

  constructor(options: SessionOptions) {
    this.#options = options;
    this.#environment = options.environment;
    this.#sinceMs = options.environment.now();
    const saved = takeSaved(options.storage);
    this.#sessionId = saved.sessionId;
    this.#savedCursors = new Map(saved.cursors);
    this.#carriers = new Carriers(options);
    this.#commands = new Commands({
      ...options,
      send: (command) => this.#sendCommand(command),
      changed: () => this.#changed(),
    });
    this.#handover = new Handover(options.environment, options.timeoutMs, {
      open: (candidate) => {
        candidate.stream = this.#carriers.openWebSocket(this.#listenTo(candidate));
      },
      failed: (error, takenOver) => this.#returnFailed(error, takenOver),
    });
    this.#presence = new PresenceWatch(options.environment, () => this.#tellPresence());
    this.#stopSignals = options.environment.onSignal((signal) => this.#signal(signal));
  }

  status(): SessionStatus {
    let lag = 0;
    for (const events of this.#lag.values()) lag += events;
    return {
      connection: this.#state,
      offline: isOffline(this.#state, this.#options.attempts),
      carrier: this.#link?.stream?.carrier,
      sinceMs: this.#sinceMs,
      welcome: this.welcome,
      rttMs: this.#rttMs,
      lag,
      clockOffsetMs: this.#clockOffsetMs,
      unsaved: this.#commands.size,
      faults: this.#faults,
    };
  }

  /** Calls listener when status may have changed. Returns the function that ends it. */
  onStatus(listener: () => void): () => void {
    return subscribe(this.#statusListeners, listener);
  }

  onEvent(listener: (event: Event) => void): () => void {
    return subscribe(this.#eventListeners, listener);
  }

  onDropped(listener: (dropped: DroppedCommand) => void): () => void {
    return this.#commands.onDropped(listener);
  }

  join(name: string, options: JoinOptions): RoomHandle {
    const known = this.#rooms.get(name);
    const room = known ?? this.#rooms.add(name, options.detail, options.resumeAfterReload ?? false);
    // Not the function itself: two holders may pass the same one.
    const listener = (message: RoomMessage) => options.listener(message);
    room.listeners.add(listener);
    if (known === undefined) {
      room.cursor = room.storesCursor ? this.#savedCursors.get(name) : undefined;
      this.#savedCursors.delete(name);
      this.#sendJoin(room);
    }
    this.start();
    return {
      room: name,
      leave: () => {
        if (room.listeners.delete(listener) && room.listeners.size === 0) this.#leave(room);
      },
    };
  }

  async command<C extends CommandInit>(command: C): Promise<CommandAnswer<C["case"]>> {
    if (this.#state.kind === "closed") throw closedError(this.#state.error);
    const answer = this.#commands.carryOut(command);
    this.start();
    return answer;
  }

  sendActivity(room: string, field: string, state: ActivityState): void {
    if (!this.#isUp()) return;
    const name = this.#rooms.get(room)?.canonical ?? room;
    this.#link?.stream?.sendOrDrop({
      case: "command",
      value: { command: { case: "updateActivity", value: { room: name, field, state } } },
    });
  }

  /** Starts the connection, if it never was. */
  start(): void {
    if (!this.#stopped) this.#dispatch({ kind: "start" });
  }

  /** Tries at once, whatever was planned. */
  reconnect(): void {
    if (!this.#stopped) this.#dispatch({ kind: "reconnect" });
  }

  /** Ends the session for good. Commands that wait are rejected. */
  stop(): void {
    if (this.#stopped) return;
    this.#stopped = true;
    this.#stopSignals();
    this.#presence.stop();
    this.#dispatch({ kind: "stop" });
    for (const room of this.#rooms.all()) this.#rooms.remove(room);
    this.#cancelLag();
  }

  #isUp(): boolean {
    return this.#state.kind === "live" || this.#state.kind === "catching-up";
  }

  #dispatch(event: ConnectionEvent): void {
    const before = this.#state;
    const { state, effects } = transition(before, event, {
      nowMs: this.#environment.now(),
      random: this.#environment.random(),
      online: this.#environment.online(),
      delayMs: this.#options.delayMs,
    });
    if (state === before && effects.length === 0) return;
    this.#state = state;
    if (state.kind !== before.kind) this.#sinceMs = this.#environment.now();
    for (const effect of effects) this.#carryOut(effect);
    if (state.kind === "closed" && before.kind !== "closed") {
      this.#commands.rejectAll(closedError(state.error));
    }
    this.#changed();
  }

  #carryOut(effect: ConnectionEffect): void {
    switch (effect.kind) {
      case "open":
        return this.#open(effect.refreshToken);
      case "close":
        return this.#closeLink();
      case "schedule-retry":
        this.#cancelRetry();
        this.#cancelRetry = this.#environment.after(effect.delayMs, () =>
          this.#dispatch({ kind: "retry-due" }),
        );
        return;
      case "cancel-retry":
        return this.#cancelRetry();
      case "watch-health":
        this.#cancelStreamTimer();
        this.#cancelStreamTimer = this.#environment.after(healthyAfterMs, () =>
          this.#dispatch({ kind: "healthy" }),
        );
        return;
      case "probe":
        return this.#link?.stream?.probe();
      default:
        effect satisfies never;
    }
  }

  #changed(): void {
    for (const listener of [...this.#statusListeners]) callSafely(listener);
  }

  #open(refresh: boolean): void {
    this.#closeLink();
    const link = new Link();
    this.#link = link;
    const { welcomeWithinMs } = this.#carriers;
    this.#cancelStreamTimer = this.#environment.after(welcomeWithinMs, () =>
      this.#lost(unavailable(`the server did not answer within ${welcomeWithinMs / 1000} s`), true),
    );
    link.stream = this.#carriers.open(refresh, this.#listenTo(link));
  }

  #listenTo(link: Link): StreamListener {
    return {
      greet: (stream) => this.#greet(link, stream),
      frame: (frame) => this.#frame(link, frame),
      refused: (number, error) => this.#refused(link.answered(number), error),
      measured: (rttMs, serverTimeMs) => this.#measured(rttMs, serverTimeMs),
      carrierChanged: () => this.#changed(),
      ended: (error) => this.#ended(link, error),
    };
  }

  /** Says hello. The joins follow at once: the server reads in order, and a round trip is saved. */
  #greet(link: Link, stream: SessionStream): boolean {
    if (!this.#handover.is(link) && !this.#handover.mayGreet) return false;
    link.beginAnew();
    link.pending = true;
    const { clientName: client, noDelay } = this.#options;
    const hello = { client, sessionId: this.#sessionId, noDelay };
    link.ask({ kind: "hello" }, { case: "hello", value: hello }, stream);
    // A session begins as online.
    if (this.#presence.state !== PresenceState.ONLINE) stream.send(this.#ownPresence());
    if (this.#handover.is(link)) return true;
    for (const room of this.#rooms.all()) this.#sendJoin(room, link, stream);
    return true;
  }

  #closeLink(): void {
    this.#link?.stream?.close();
    this.#link = undefined;
    this.#handover.drop();
    this.#carriers.cancelReturn();
    this.#cancelStreamTimer();
    this.#commands.lost();
    this.#lag.clear();
    this.#rttMs = undefined;
    this.#rooms.lost();
  }

  #ended(link: Link, error: TcmError): void {
    if (this.#handover.is(link)) return this.#handover.failed(error);
    if (error.code === Code.Aborted && this.#handover.takesOver(error)) return;
    this.#lost(error, false);
  }

  #lost(error: TcmError, silent: boolean): void {
    // The server ended this stream since another took the session over, for
    // example a duplicated tab. With a session of its own neither disturbs the other.
    if (error.code === Code.Aborted) this.#sessionId = "";
    const heard = this.#link?.welcomed === true || error.reason !== "";
    this.#closeLink();
    // A server before Watch says UNIMPLEMENTED.
    const reason = error.code === Code.Unimplemented ? "TRANSPORT_OFF" : error.reason;
    const next = this.#carriers.decide({ kind: "ended", heard, silent, reason });
    this.#dispatch(next === "at-once" ? { kind: "switch" } : { kind: "lost", error });
  }

  #planReturn(): void {
    this.#carriers.planReturn(() => {
      if (this.#link !== undefined && this.#isUp()) this.#handover.begin(this.#link);
    });
  }

  #returnFailed(error: TcmError, takenOver: TcmError | undefined): void {
    this.#carriers.decide({ kind: "return-failed", reason: error.reason });
    if (takenOver === undefined) this.#planReturn();
    else this.#lost(takenOver, false);
  }

  /**
   * Moves over to the candidate. Its rooms are asked for only now, from where
   * they are: nothing came since the old link ended, so nothing is stale, and
   * nothing comes twice.
   */
  #moveOver(link: Link): void {
    const old = this.#link;
    this.#link = link;
    this.#handover.done();
    old?.stream?.close();
    this.#carriers.cancelReturn();
    this.#carriers.decide({ kind: "returned" });
    this.#commands.lost();
    this.#lag.clear();
    for (const room of this.#rooms.all()) {
      room.cancelRetry();
      this.#sendJoin(room);
    }
  }

  /** Joins a room from where it is; without a link that is done by the next one's greeting. */
  #sendJoin(room: Room, link = this.#link, stream = link?.stream): void {
    const { name, detail, cursor } = room;
    const position = cursor === undefined ? {} : { position: cursor };
    link?.ask({ kind: "join", room }, { case: "join", value: { room: name, detail, ...position } }, stream);
  }

  #sendCommand(command: Command): void {
    if (this.#link?.welcomed !== true) return;
    this.#link.ask({ kind: "command", requestId: command.requestId }, { case: "command", value: command });
  }

  /** Leaves a room on the server, unless it is wanted under another name, or again. */
  #sendLeave(canonical: string): void {
    const wanted = this.#rooms.all().some((room) => room.canonical === canonical);
    if (!wanted) this.#link?.stream?.send({ case: "leave", value: { room: canonical } });
  }

  #leave(room: Room): void {
    this.#rooms.remove(room);
    if (room.joined) this.#sendLeave(room.canonical);
    this.#lag.delete(room.canonical);
    this.#settle();
  }

  #frame(link: Link, frame: SubscribeResponse): void {
    const { fresh, gaps, faults } = this.#rooms.deliver(frame.events);
    for (const listener of [...this.#eventListeners]) {
      for (const event of fresh) callSafely(() => listener(event));
    }
    for (const room of gaps) this.#joinAnew(room);
    this.#report(faults);
    this.#control(link, frame);
    this.#settle();
  }

  #control(link: Link, { frame, replyTo }: SubscribeResponse): void {
    const asked = link.answered(replyTo);
    switch (frame.case) {
      case "welcome":
        return this.#welcomed(link, frame.value);
      case "joined":
        return this.#joined(asked, frame.value);
      case "ack":
        return this.#commands.acked(frame.value.requestId, frame.value.result?.result ?? { case: undefined });
      case "error":
        if (this.#handover.is(link)) return this.#handover.failed(fromErrorMessage(frame.value));
        return this.#refused(asked, fromErrorMessage(frame.value));
      case "bookmark":
        return this.#bookmark(frame.value.room, frame.value.position);
      case "reset":
        this.#lag.delete(frame.value.room);
        return this.#rooms.reset(frame.value.room, frame.value.reason);
      case "evicted":
        return this.#evicted(frame.value);
      case "tokenExpiring":
        return link.stream?.refreshToken();
      case "lag":
        return this.#lags(frame.value.room, Number(frame.value.events));
      case "goingAway":
        return this.#goingAway(frame.value);
      case "pong": // The stream's own business.
      case "left":
      case undefined: // Only events, or a frame of a newer server.
        return;
      default:
        frame satisfies never;
    }
  }

  /** A stream's first welcome, or that of a Watch that goes on where the last one ended. */
  #welcomed(link: Link, welcome: Welcome): void {
    this.welcome = welcome;
    this.#sessionId = welcome.sessionId;
    link.pending = false;
    if (!link.welcomed) {
      link.welcomed = true;
      if (welcome.serverTime !== undefined) {
        this.#clockOffsetMs = timestampToMs(welcome.serverTime) - this.#environment.now();
      }
      if (this.#handover.is(link)) this.#moveOver(link);
      else this.#carriers.decide({ kind: "welcomed" });
      this.#planReturn();
      this.#dispatch({ kind: "welcomed", roomsPending: !this.#rooms.current });
      this.#commands.welcomed(welcome);
    }
    this.#handover.welcomed(link);
    this.#changed();
  }

  /** A join's answer, or the snapshot after a reset, which answers nothing. */
  #joined(asked: Asked | undefined, joined: Joined): void {
    this.#lag.delete(joined.room);
    if (asked?.kind === "join") {
      if (this.#rooms.get(asked.room.name) === asked.room) this.#rooms.joined(asked.room, joined);
      // The room was left while the answer, which tells its name, was on its way.
      else this.#sendLeave(joined.room);
      return;
    }
    for (const room of this.#rooms.named(joined.room)) this.#rooms.joined(room, joined);
  }

  #refused(asked: Asked | undefined, error: TcmError): void {
    switch (asked?.kind) {
      case "hello":
        return this.#lost(error, false);
      case "join":
        return this.#joinRefused(asked.room, error);
      case "command":
        return this.#commands.refused(asked.requestId, error);
      case undefined: // To typing, a ping or a token: whatever it means, the stream's end will say so.
        return;
      default:
        asked satisfies never;
    }
  }

  #joinRefused(room: Room, error: TcmError): void {
    if (this.#rooms.get(room.name) !== room) return;
    if (!isTransient(error.code)) return this.#rooms.failed(room, error);
    this.#joinLater(room, room.putOff, error.retryAfterMs);
    room.putOff += 1;
  }

  #joinLater(room: Room, times: number, atLeastMs = 0): void {
    const { delayMs } = this.#options;
    const waitMs = Math.max(atLeastMs, backoffMs(times, this.#environment.random(), delayMs));
    room.cancelRetry();
    room.cancelRetry = this.#environment.after(waitMs, () => this.#sendJoin(room));
  }

  /** Something is missing in a room: it goes on from where it is, or where that is of no use, with a snapshot. */
  #joinAnew(room: Room): void {
    room.tell({ kind: "stale" });
    if (room.gaps > 1) this.#joinLater(room, room.gaps);
    else this.#sendJoin(room);
  }

  /** Counts what a server must not send, and reports each kind of it once. */
  #report(faults: readonly string[]): void {
    for (const fault of faults) {
      this.#faults++;
      if (this.#reported.has(fault) || this.#reported.size >= maxReported) continue;
      this.#reported.add(fault);
      report(new TcmError({ code: Code.Internal, message: `the server broke the protocol: ${fault}` }));
    }
  }

  #bookmark(name: string, position: Cursor | undefined): void {
    if (position === undefined) return;
    for (const room of this.#rooms.bookmark(name, position)) this.#joinAnew(room);
    if (this.#lag.delete(name)) this.#changed();
  }

  #evicted({ room: name, error }: Evicted): void {
    const why =
      error === undefined
        ? new TcmError({ code: Code.PermissionDenied, message: "the server took the room away" })
        : fromErrorMessage(error);
    for (const room of this.#rooms.named(name)) this.#rooms.failed(room, why);
  }

  /** The last frame of a stream. What it says was sent and did not come is fetched by the next one. */
  #goingAway({ reconnectAfter, cursors }: GoingAway): void {
    for (const { room: name, position } of cursors) {
      if (position === undefined) continue;
      for (const room of this.#rooms.bookmark(name, position)) room.tell({ kind: "stale" });
    }
    this.#dispatch({ kind: "going-away", afterMs: durationToMs(reconnectAfter) });
  }

  #lags(room: string, events: number): void {
    if (events > 0) this.#lag.set(room, events);
    else this.#lag.delete(room);
    this.#cancelLag();
    this.#cancelLag = this.#environment.after(lagHoldsMs, () => {
      this.#lag.clear();
      this.#changed();
    });
    this.#changed();
  }

  #measured(rttMs: number, serverTimeMs: number): void {
    this.#rttMs = rttMs;
    // The server read its clock about half a round trip ago.
    if (serverTimeMs > 0) this.#clockOffsetMs = serverTimeMs + rttMs / 2 - this.#environment.now();
    this.#changed();
  }

  #tellPresence(): void {
    if (this.#isUp()) this.#link?.stream?.sendOrDrop(this.#ownPresence());
  }

  #ownPresence(): RequestFrame {
    const { state } = this.#presence;
    return { case: "command", value: { command: { case: "updatePresence", value: { state } } } };
  }

  /** Tells the machine when the last room has caught up. */
  #settle(): void {
    if (this.#state.kind === "catching-up" && this.#rooms.current) this.#dispatch({ kind: "caught-up" });
  }

  #signal(signal: WakeSignal): void {
    this.#presence.signal(signal);
    switch (signal) {
      case "online":
        this.#carriers.decide({ kind: "online" });
        if (this.#isUp()) this.#planReturn();
        return this.#dispatch({ kind: "online" });
      case "offline":
      case "visible":
        return this.#dispatch({ kind: signal });
      case "hidden":
      case "input":
        return;
      case "page-hide":
        return this.#save();
      default:
        signal satisfies never;
    }
  }

  #save(): void {
    const cursors = new Map<string, Cursor>();
    for (const room of this.#rooms.all()) {
      if (room.storesCursor && room.cursor !== undefined) cursors.set(room.name, room.cursor);
    }
    save(this.#options.storage, { sessionId: this.#sessionId, cursors });
  }
}

function subscribe<T>(listeners: Set<T>, listener: T): () => void {
  listeners.add(listener);
  return () => {
    listeners.delete(listener);
  };
}

/** isTransient says whether a join that was refused is worth another try on the same stream. */
function isTransient(code: Code): boolean {
  switch (code) {
    case Code.Unavailable:
    case Code.ResourceExhausted:
    case Code.Aborted:
    case Code.DeadlineExceeded:
    case Code.Internal:
    case Code.Unknown:
      return true;
    default:
      return false;
  }
}

function closedError(error: TcmError | undefined): TcmError {
  return error ?? new TcmError({ code: Code.Canceled, message: "the session was closed" });
}
