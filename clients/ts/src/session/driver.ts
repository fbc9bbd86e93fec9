import { type Client, Code } from "@connectrpc/connect";
import type { ActivityState } from "@tcmanager/gen/tcmanager/v1/collaboration_pb";
import type { CommandResult } from "@tcmanager/gen/tcmanager/v1/command_pb";
import type { Event } from "@tcmanager/gen/tcmanager/v1/event_pb";
import type {
  Evicted,
  Joined,
  RealtimeService,
  SubscribeResponse,
  Welcome,
} from "@tcmanager/gen/tcmanager/v1/realtime_pb";
import {
  backoffMs,
  type ConnectionEffect,
  type ConnectionEvent,
  type ConnectionState,
  healthyAfterMs,
  transition,
} from "../connection";
import type { Environment, WakeSignal } from "../environment";
import { fromErrorMessage, TcmError } from "../errors";
import type {
  Answer,
  Answers,
  CommandAnswer,
  CommandInit,
  JoinOptions,
  KeyValueStorage,
  RoomHandle,
  RoomMessage,
  Session,
  TokenSource,
} from "../session";
import { durationToMs, timestampToMs } from "../time";
import { callSafely } from "./call-safely";
import { Heartbeat } from "./heartbeat";
import { Outbox } from "./outbox";
import { type Cursor, type Room, Rooms } from "./rooms";
import { save, takeSaved } from "./saved-state";
import { SessionStream } from "./stream";

/** What there is to know about a session at a moment. */
export interface SessionStatus {
  readonly connection: ConnectionState;
  /** When the connection's state began. */
  readonly sinceMs: number;
  readonly welcome: Welcome | undefined;
  readonly rttMs: number | undefined;
  readonly lag: number;
  readonly clockOffsetMs: number;
  readonly unsaved: number;
}

/** What a session is made of. */
export interface SessionOptions {
  readonly client: Client<typeof RealtimeService>;
  readonly token: TokenSource;
  readonly environment: Environment;
  readonly clientName: string;
  readonly storage: KeyValueStorage | undefined;
  readonly connectTimeoutMs: number;
}

/** Commands that may wait for their answers; see Outbox. */
const maxOutbox = 256;
/** The server repeats its word of lag while it holds; without news it is over. */
const lagHoldsMs = 10_000;

/** Which frame an answer belongs to. */
type Asked =
  | { readonly kind: "hello" }
  | { readonly kind: "join"; readonly room: Room }
  | { readonly kind: "command"; readonly requestId: string };

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
  readonly #outbox = new Outbox(maxOutbox);
  readonly #heartbeat: Heartbeat;
  readonly #asked = new Map<bigint, Asked>();
  readonly #eventListeners = new Set<(event: Event) => void>();
  readonly #statusListeners = new Set<() => void>();
  readonly #lag = new Map<string, number>();
  readonly #savedCursors: Map<string, Cursor>;
  readonly #stopSignals: () => void;
  #state: ConnectionState = { kind: "idle" };
  #sinceMs: number;
  #stream: SessionStream | undefined;
  #sessionId: string;
  #rttMs: number | undefined;
  #clockOffsetMs = 0;
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
    this.#heartbeat = new Heartbeat(options.environment, {
      ping: () => void this.#stream?.send({ case: "ping", value: {} }),
      dead: () => this.#lost(unavailable("the server has been silent for too long")),
    });
    this.#stopSignals = options.environment.onSignal((signal) => this.#signal(signal));
  }

  status(): SessionStatus {
    let lag = 0;
    for (const events of this.#lag.values()) lag += events;
    return {
      connection: this.#state,
      sinceMs: this.#sinceMs,
      welcome: this.welcome,
      rttMs: this.#rttMs,
      lag,
      clockOffsetMs: this.#clockOffsetMs,
      unsaved: this.#outbox.size,
    };
  }

  /** Calls listener when status may have changed. Returns the function that ends it. */
  onStatus(listener: () => void): () => void {
    return subscribe(this.#statusListeners, listener);
  }

  onEvent(listener: (event: Event) => void): () => void {
    return subscribe(this.#eventListeners, listener);
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
      if (this.#stream !== undefined) this.#sendJoin(room);
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
    const requestId = this.#environment.uuid();
    const result = await new Promise<CommandResult["result"]>((resolve, reject) => {
      this.#outbox.add({
        requestId,
        frame: { case: "command", value: { requestId, command } },
        resolve,
        reject,
      });
      if (this.#isUp()) this.#sendCommand(requestId);
      this.start();
      this.#changed();
    });
    const kind: C["case"] = command.case;
    if (result.case !== undefined && answers(result, kind)) return result.value;
    throw new TcmError({ code: Code.Internal, message: `the server answered ${kind} with ${result.case}` });
  }

  sendActivity(room: string, field: string, state: ActivityState): void {
    if (!this.#isUp()) return;
    const name = this.#rooms.get(room)?.canonical ?? room;
    const activity = { room: name, field, state };
    this.#stream?.sendOrDrop({
      case: "command",
      value: { command: { case: "updateActivity", value: activity } },
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
    });
    if (state === before && effects.length === 0) return;
    this.#state = state;
    if (state.kind !== before.kind) this.#sinceMs = this.#environment.now();
    for (const effect of effects) this.#carryOut(effect);
    if (state.kind === "closed" && before.kind !== "closed") this.#outbox.rejectAll(closedError(state.error));
    this.#changed();
  }

  #carryOut(effect: ConnectionEffect): void {
    switch (effect.kind) {
      case "open":
        return this.#open(effect.refreshToken);
      case "close":
        return this.#closeStream();
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
        return this.#heartbeat.probe();
      default:
        effect satisfies never;
    }
  }

  #changed(): void {
    for (const listener of [...this.#statusListeners]) callSafely(listener);
  }

  /** Opens a stream. The joins follow the hello at once: the server reads in order, and a round trip is saved. */
  #open(refresh: boolean): void {
    this.#closeStream();
    const stream = new SessionStream(this.#options.client, refresh, {
      frame: (frame) => this.#frame(frame),
      ended: (error) => this.#lost(error),
    });
    this.#stream = stream;
    this.#ask({ kind: "hello" }, () =>
      stream.send({
        case: "hello",
        value: { client: this.#options.clientName, sessionId: this.#sessionId },
      }),
    );
    for (const room of this.#rooms.all()) this.#sendJoin(room);
    const { connectTimeoutMs } = this.#options;
    this.#cancelStreamTimer = this.#environment.after(connectTimeoutMs, () =>
      this.#lost(unavailable(`the server did not answer within ${connectTimeoutMs / 1000} s`)),
    );
  }

  #closeStream(): void {
    this.#stream?.close();
    this.#stream = undefined;
    this.#heartbeat.stop();
    this.#cancelStreamTimer();
    this.#asked.clear();
    this.#lag.clear();
    this.#rttMs = undefined;
    this.#rooms.lost();
  }

  #lost(error: TcmError): void {
    // The server ended this stream since another took the session over, for
    // example a duplicated tab. With a session of its own neither disturbs the other.
    if (error.code === Code.Aborted) this.#sessionId = "";
    this.#closeStream();
    this.#dispatch({ kind: "lost", error });
  }

  #ask(asked: Asked, send: () => bigint | undefined): void {
    const id = send();
    if (id !== undefined) this.#asked.set(id, asked);
  }

  #sendJoin(room: Room): void {
    const { name, detail, cursor } = room;
    const position = cursor === undefined ? {} : { position: cursor };
    this.#ask({ kind: "join", room }, () =>
      this.#stream?.send({ case: "join", value: { room: name, detail, ...position } }),
    );
  }

  #sendCommand(requestId: string): void {
    for (const entry of this.#outbox.entries()) {
      if (entry.requestId !== requestId) continue;
      this.#ask({ kind: "command", requestId }, () => this.#stream?.send(entry.frame));
    }
  }

  /** Leaves a room on the server, unless it is wanted under another name, or again. */
  #sendLeave(canonical: string): void {
    const wanted = this.#rooms.all().some((room) => room.canonical === canonical);
    if (!wanted) this.#stream?.send({ case: "leave", value: { room: canonical } });
  }

  #leave(room: Room): void {
    this.#rooms.remove(room);
    if (room.joined) this.#sendLeave(room.canonical);
    this.#lag.delete(room.canonical);
    this.#settle();
  }

  #frame(frame: SubscribeResponse): void {
    this.#heartbeat.frameArrived();
    const fresh = this.#rooms.deliver(frame.events);
    for (const listener of [...this.#eventListeners]) {
      for (const event of fresh) callSafely(() => listener(event));
    }
    this.#control(frame);
    this.#settle();
  }

  #control({ frame, replyTo }: SubscribeResponse): void {
    const asked = this.#asked.get(replyTo);
    this.#asked.delete(replyTo);
    switch (frame.case) {
      case "welcome":
        return this.#welcomed(frame.value);
      case "joined":
        return this.#joined(asked, frame.value);
      case "ack":
        this.#outbox.resolve(frame.value.requestId, frame.value.result?.result ?? { case: undefined });
        return this.#changed();
      case "error":
        return this.#refused(asked, fromErrorMessage(frame.value));
      case "bookmark":
        return this.#bookmark(frame.value.room, frame.value.position);
      case "reset":
        this.#lag.delete(frame.value.room);
        return this.#rooms.reset(frame.value.room, frame.value.reason);
      case "evicted":
        return this.#evicted(frame.value);
      case "tokenExpiring":
        return void this.#refreshToken();
      case "lag":
        return this.#lags(frame.value.room, Number(frame.value.events));
      case "goingAway": {
        const afterMs =
          frame.value.reconnectAfter === undefined ? 0 : durationToMs(frame.value.reconnectAfter);
        return this.#dispatch({ kind: "going-away", afterMs });
      }
      case "pong":
        return this.#ponged(timestampToMs(frame.value.serverTime));
      case "left":
      case undefined: // Only events, or a frame of a newer server.
        return;
      default:
        frame satisfies never;
    }
  }

  #welcomed(welcome: Welcome): void {
    this.welcome = welcome;
    this.#sessionId = welcome.sessionId;
    if (welcome.serverTime !== undefined) {
      this.#clockOffsetMs = timestampToMs(welcome.serverTime) - this.#environment.now();
    }
    this.#dispatch({ kind: "welcomed", roomsPending: !this.#rooms.current });
    const { heartbeatInterval, heartbeatTimeout } = welcome;
    this.#heartbeat.start(
      heartbeatInterval === undefined ? 25_000 : durationToMs(heartbeatInterval),
      heartbeatTimeout === undefined ? 60_000 : durationToMs(heartbeatTimeout),
    );
    for (const { requestId, frame } of this.#outbox.entries()) {
      this.#ask({ kind: "command", requestId }, () => this.#stream?.send(frame));
    }
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
        return this.#lost(error);
      case "join":
        return this.#joinRefused(asked.room, error);
      case "command":
        this.#outbox.reject(asked.requestId, error);
        return this.#changed();
      case undefined: // To typing, a ping or a token: whatever it means, the stream's end will say so.
        return;
    }
  }

  #joinRefused(room: Room, error: TcmError): void {
    if (this.#rooms.get(room.name) !== room) return;
    if (!isTransient(error.code)) return this.#rooms.failed(room, error);
    const delayMs = Math.max(error.retryAfterMs ?? 0, backoffMs(room.putOff, this.#environment.random()));
    room.putOff += 1;
    room.cancelRetry = this.#environment.after(delayMs, () => this.#sendJoin(room));
  }

  #bookmark(name: string, position: Cursor | undefined): void {
    if (position === undefined) return;
    const { epoch, offset } = position;
    for (const room of this.#rooms.named(name)) room.bookmark({ epoch, offset });
    if (this.#lag.delete(name)) this.#changed();
  }

  #evicted({ room: name, error }: Evicted): void {
    const why =
      error === undefined
        ? new TcmError({ code: Code.PermissionDenied, message: "the server took the room away" })
        : fromErrorMessage(error);
    for (const room of this.#rooms.named(name)) this.#rooms.failed(room, why);
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

  #ponged(serverTimeMs: number): void {
    const rttMs = this.#heartbeat.pongArrived();
    if (rttMs === undefined) return;
    this.#rttMs = rttMs;
    // The server read its clock about half a round trip ago.
    if (serverTimeMs > 0) this.#clockOffsetMs = serverTimeMs + rttMs / 2 - this.#environment.now();
    this.#changed();
  }

  /** Gives the stream a newer token. If there is none, the stream's end leads to the next attempt, which says why. */
  async #refreshToken(): Promise<void> {
    const stream = this.#stream;
    try {
      const token = await this.#options.token({ refresh: true });
      if (token !== "" && this.#stream === stream) stream?.send({ case: "refreshToken", value: { token } });
    } catch {
      return;
    }
  }

  /** Tells the machine when the last room has caught up. */
  #settle(): void {
    if (this.#state.kind === "catching-up" && this.#rooms.current) this.#dispatch({ kind: "caught-up" });
  }

  #signal(signal: WakeSignal): void {
    switch (signal) {
      case "online":
      case "offline":
      case "visible":
        return this.#dispatch({ kind: signal });
      case "hidden":
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

function answers<K extends CommandInit["case"]>(
  answer: Answer,
  kind: K,
): answer is Answer & { readonly case: K; readonly value: Answers[K] } {
  return answer.case === kind;
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

function unavailable(message: string): TcmError {
  return new TcmError({ code: Code.Unavailable, message });
}

function closedError(error: TcmError | undefined): TcmError {
  return error ?? new TcmError({ code: Code.Canceled, message: "the session was closed" });
}
