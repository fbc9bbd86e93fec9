import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { durationFromMs, timestampFromMs } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError, createRouterTransport, type Transport } from "@connectrpc/connect";
import {
  CollaborationType,
  PresenceState,
  type UpdateActivityRequest,
} from "@tcmanager/gen/tcmanager/v1/collaboration_pb";
import type { Command } from "@tcmanager/gen/tcmanager/v1/command_pb";
import { ErrorSchema } from "@tcmanager/gen/tcmanager/v1/error_pb";
import type { Event, Position } from "@tcmanager/gen/tcmanager/v1/event_pb";
import { type User, UserSchema } from "@tcmanager/gen/tcmanager/v1/identity_pb";
import {
  type AckSchema,
  type ExecuteRequest,
  type JoinRoom,
  type SubscribeRequest,
  SubscribeRequestSchema,
  WatchMode,
  type WatchRequest,
} from "@tcmanager/gen/tcmanager/v1/realtime_pb";
import { FakeRoom, type Payload } from "./fake-room";
import { FakeSession, type Response } from "./fake-session";
import { FakeWorld } from "./fake-world";
import { routes } from "./routes";

/** How a fake server behaves. */
export interface FakeServerOptions {
  /** What the welcome asks for, and when a long poll ends; 25 s by default. */
  readonly heartbeatIntervalMs?: number;
  /** What the welcome says, and when a Watch ends; 60 s by default. */
  readonly heartbeatTimeoutMs?: number;
  /** How long request ids are remembered, as the welcome says; 24 h by default. */
  readonly requestWindowMs?: number;
}

/**
 * FakeServer is a server in memory, for tests of programs that use this client
 * and for developing pages without one. It keeps the session protocol: joins
 * with snapshot or position, events in order, commands once a request id, by
 * Subscribe as by Watch and Execute. It knows no rights: everybody may do
 * everything.
 *
 *     const server = new FakeServer();
 *     const run = server.world.addRun({ project: "demo", tests: 46_000 });
 *     const client = createClient({ baseUrl: "", token: () => "", transport: server.connect() });
 *     server.world.report(run.id, { test: { suite: "pkg", name: "TestX" }, status: Status.FAILED });
 */
export class FakeServer {
  /** What is stored: make and change it here. */
  readonly world: FakeWorld;
  /** If set, calls and new streams fail with it. */
  refuse: ConnectError | undefined;
  /** If set, new websockets (Subscribe) fail with it: websocketBlocked for a network that blocks them. */
  refuseWebSockets: ConnectError | undefined;
  /** If set, each Watch fails with it. */
  refuseWatches: ConnectError | undefined;
  /** If set, each Execute fails with it. */
  refuseExecute: ConnectError | undefined;
  /** Real-time is switched off: only polls are answered. */
  realtimeOff = false;
  /** A proxy holds each streamed answer back until it is complete. */
  buffered = false;
  /** If set, new streams are accepted and then carry nothing, either way. */
  mute = false;
  /** Takes commands but does not answer them: for what an answer lost on the way does. */
  swallowAnswers = false;
  /** Every frame that arrived, oldest first, at most 10,000. */
  readonly received: SubscribeRequest[] = [];
  /** How many streams were opened so far: Subscribe and Watch. */
  opened = 0;
  /** How each Watch so far was to end. */
  readonly watches: WatchMode[] = [];
  readonly #options: FakeServerOptions;
  readonly #rooms = new Map<string, FakeRoom>();
  /** By id; those between two Watches are in it. */
  readonly #sessions = new Map<string, FakeSession>();
  readonly #watching = new Set<FakeSession>();
  /** By session id: the rooms that the session was in when its stream was replaced. */
  readonly #returning = new Map<string, Set<FakeRoom>>();
  /** Answers by user and request id. */
  readonly #answers = new Map<string, Response>();
  #epoch = 1n;
  #lastSession = 0;

  constructor(options: FakeServerOptions = {}) {
    this.#options = options;
    this.world = new FakeWorld(
      (room, payload, publishOptions) => this.publish(room, payload, publishOptions),
      (room) => this.room(room).skip(),
    );
  }

  /** A transport that calls this server as a user. */
  connect(user: { readonly id: string; readonly name: string } = { id: "u1", name: "Ada" }): Transport {
    const full = create(UserSchema, user);
    this.world.users.set(full.id, full);
    return createRouterTransport((router) => routes(router, this, full));
  }

  /** How many streams are open. */
  get streams(): number {
    return [...this.#sessions.values()].filter(({ ended }) => !ended).length;
  }

  /** Sends an event to a room. One of a durable kind is numbered and kept. */
  publish(room: string, payload: Payload, options: { actor?: User | undefined } = {}): Event {
    return this.room(room).publish(payload, { ...options, epoch: this.#epoch });
  }

  /** Sends a frame to every session, for what the fake has no method for. */
  broadcast(response: Response): void {
    for (const session of this.#sessions.values()) session.send(response);
  }

  /** Breaks all streams, as a lost network does; with an error, as a server does. */
  disconnect(error: ConnectError = new ConnectError("the connection was cut", Code.Unavailable)): void {
    for (const session of [...this.#sessions.values()]) session.end(error);
  }

  /** From now on the open streams carry nothing, either way, and nobody says so. */
  silence(): void {
    for (const session of this.#sessions.values()) session.silent = true;
  }

  /** Ends each Watch, as the server does by itself when its time is over. */
  endWatches(): void {
    for (const session of this.#watching) session.end();
  }

  /** Asks all clients to come back. */
  goAway(afterMs: number): void {
    const reconnectAfter = durationFromMs(afterMs);
    for (const session of this.#sessions.values()) {
      const cursors = [...this.#rooms.values()]
        .filter((room) => room.sessions.has(session))
        .map((room) => ({ room: room.name, position: room.position(this.#epoch) }));
      session.send({ frame: { case: "goingAway", value: { reconnectAfter, cursors } } });
    }
  }

  /** A restart: streams break, the epoch is new, what is stored stays. */
  restart(): void {
    this.#epoch++;
    this.disconnect();
  }

  /** Forgets the history of a room, so that nobody can go on from an old position. */
  trim(room: string): void {
    this.room(room).trim();
  }

  /** The room of that name, made if there is none. */
  room(name: string): FakeRoom {
    const canonical = this.world.canonical(name);
    let room = this.#rooms.get(canonical);
    if (room === undefined) {
      room = new FakeRoom(canonical);
      this.#rooms.set(canonical, room);
    }
    return room;
  }

  /** One Subscribe call; see routes. */
  async *subscribe(
    requests: AsyncIterable<SubscribeRequest>,
    user: User,
    signal: AbortSignal,
  ): AsyncGenerator<Response> {
    this.#check(this.refuseWebSockets);
    if (this.realtimeOff) throw realtimeOff();
    const session = this.#open(user, signal);
    this.#read(session, requests).then(
      () => session.end(),
      () => session.end(),
    );
    try {
      yield* session.outgoing();
    } finally {
      this.#gone(session);
    }
  }

  /** One Watch call; see routes. */
  async *watch({ frames, mode }: WatchRequest, user: User, signal: AbortSignal): AsyncGenerator<Response> {
    this.#check(this.refuseWatches);
    if (this.realtimeOff && mode !== WatchMode.POLL) throw realtimeOff();
    this.watches.push(mode);
    const session = this.#open(user, signal);
    this.#watching.add(session);
    if (mode === WatchMode.LONG_POLL) session.onNews = () => session.end();
    for (const request of frames) this.#take(session, request);
    if (mode === WatchMode.POLL && !session.silent) session.end();
    const { heartbeatIntervalMs = 25_000, heartbeatTimeoutMs = 60_000 } = this.#options;
    const lasts = mode === WatchMode.LONG_POLL ? heartbeatIntervalMs : heartbeatTimeoutMs;
    const timer = setTimeout(() => session.end(), lasts);
    const pulse = setInterval(() => session.send({ frame: pong() }), heartbeatIntervalMs);
    try {
      if (this.buffered) yield* await all(session.outgoing());
      else yield* session.outgoing();
    } finally {
      clearTimeout(timer);
      clearInterval(pulse);
      this.#watching.delete(session);
      this.#linger(session);
    }
  }

  /** One Execute call; see routes. */
  execute({ sessionId, command }: ExecuteRequest, user: User): { ack: MessageInitShape<typeof AckSchema> } {
    this.#check(this.refuseExecute);
    if (command === undefined) throw new ConnectError("no command", Code.InvalidArgument);
    this.#record(create(SubscribeRequestSchema, { frame: { case: "command", value: command } }));
    const { frame } = this.#command(this.#sessions.get(sessionId), user, command) ?? {};
    if (this.swallowAnswers) throw new ConnectError("the answer was lost", Code.Unavailable);
    if (frame?.case === "ack") return { ack: frame.value };
    if (frame?.case !== "error") return { ack: {} };
    const { message = "", code = Code.Unknown } = frame.value;
    throw new ConnectError(message, code, undefined, [{ desc: ErrorSchema, value: frame.value }]);
  }

  #check(refuse: ConnectError | undefined): void {
    const error = this.refuse ?? refuse;
    if (error !== undefined) throw error;
  }

  #open(user: User, signal: AbortSignal): FakeSession {
    const session = new FakeSession(user);
    session.silent = this.mute;
    this.opened++;
    signal.addEventListener("abort", () => session.end());
    return session;
  }

  async #read(session: FakeSession, requests: AsyncIterable<SubscribeRequest>): Promise<void> {
    for await (const request of requests) this.#take(session, request);
  }

  #record(request: SubscribeRequest): void {
    this.received.push(request);
    if (this.received.length > 10_000) this.received.shift();
  }

  #take(session: FakeSession, request: SubscribeRequest): void {
    if (session.silent) return;
    this.#record(request);
    this.#request(session, request);
  }

  #request(session: FakeSession, { id, frame }: SubscribeRequest): void {
    const reply = (response: Response["frame"]) =>
      session.send({ replyTo: id, ...(response && { frame: response }) });
    switch (frame.case) {
      case "hello":
        return this.#hello(session, frame.value.sessionId, reply);
      case "join":
        return this.#join(session, frame.value, id);
      case "leave":
        this.#leave(session, this.room(frame.value.room));
        return reply({ case: "left", value: { room: frame.value.room } });
      case "command": {
        const answer = this.#command(session, session.user, frame.value);
        if (answer !== undefined && !this.swallowAnswers) session.send({ ...answer, replyTo: id });
        return;
      }
      case "ping":
        return reply(pong());
      case "refreshToken":
      case undefined:
        return;
      default:
        frame satisfies never;
    }
  }

  #hello(session: FakeSession, wanted: string, reply: (frame: Response["frame"]) => void): void {
    const older = this.#sessions.get(wanted);
    if (older !== undefined) {
      older.end(new ConnectError("the session goes on elsewhere", Code.Aborted));
      session.state = older.state;
      this.#replace(older, session);
    }
    this.#lastSession++;
    session.id = wanted === "" ? `s${this.#lastSession}` : wanted;
    this.#sessions.set(session.id, session);
    const { heartbeatIntervalMs = 25_000, heartbeatTimeoutMs = 60_000, requestWindowMs } = this.#options;
    reply({
      case: "welcome",
      value: {
        sessionId: session.id,
        user: session.user,
        heartbeatInterval: durationFromMs(heartbeatIntervalMs),
        heartbeatTimeout: durationFromMs(heartbeatTimeoutMs),
        maxRooms: 100,
        maxRequestBytes: 1 << 20,
        serverVersion: "fake",
        serverTime: timestampFromMs(Date.now()),
        requestWindow: durationFromMs(requestWindowMs ?? 24 * 3_600_000),
      },
    });
  }

  #join(session: FakeSession, request: JoinRoom, replyTo: bigint): void {
    const snapshot = this.world.snapshot(request.room, session.user);
    if (snapshot === undefined) {
      const error = create(ErrorSchema, {
        code: Code.PermissionDenied,
        reason: "ROOM_DENIED",
        message: "you may not hear this room, or there is no such room",
      });
      return session.send({ replyTo, frame: { case: "error", value: error } });
    }
    const room = this.room(request.room);
    const missed = request.position && room.since(request.position);
    if (request.position !== undefined && missed === undefined) {
      session.send({ frame: { case: "reset", value: { room: room.name, reason: "POSITION_TRIMMED" } } });
    }
    this.#enter(session, room);
    session.send({ replyTo, frame: { case: "joined", value: this.#joined(room, missed, snapshot) } });
    if (missed !== undefined && missed.length > 0) session.send({ events: missed });
  }

  #joined(room: FakeRoom, missed: readonly Event[] | undefined, snapshot: ReturnType<FakeWorld["snapshot"]>) {
    const position: Position = room.position(this.#epoch);
    return {
      room: room.name,
      position,
      recovered: missed !== undefined,
      presence: room.presence(),
      present: room.presence().length,
      activity: [...room.activity.values()],
      ...(missed === undefined && { recent: room.recent(), ...(snapshot && { snapshot }) }),
    };
  }

  #enter(session: FakeSession, room: FakeRoom): void {
    const returns = this.#returning.get(session.id)?.delete(room) === true;
    const isNew = ![...room.sessions].some(({ user }) => user.id === session.user.id);
    room.sessions.add(session);
    if (isNew && !returns) this.#presence(room, session.user, CollaborationType.USER_JOINED);
  }

  #leave(session: FakeSession, room: FakeRoom): void {
    if (!room.sessions.delete(session)) return;
    room.activity.delete(session.id);
    const still = [...room.sessions].some(({ user }) => user.id === session.user.id);
    if (!still) this.#presence(room, session.user, CollaborationType.USER_LEFT);
  }

  #presence(room: FakeRoom, user: User, type: CollaborationType): void {
    const data: Payload["value"] = {
      type,
      user: { id: user.id, name: user.name },
      data: { case: "presence", value: room.presenceOf(user) },
    };
    room.publish({ case: "presence", value: data }, { epoch: this.#epoch, actor: user });
  }

  #gone(session: FakeSession): void {
    if (this.#sessions.get(session.id) === session) this.#sessions.delete(session.id);
    for (const room of this.#rooms.values()) this.#leave(session, room);
  }

  /** A session goes on with another stream: nobody sees it leave the rooms that it joins again. */
  #replace(older: FakeSession, session: FakeSession): void {
    const rooms = [...this.#rooms.values()].filter((room) => room.sessions.delete(older));
    const returning = new Set(rooms);
    this.#returning.set(older.id, returning);
    queueMicrotask(() => {
      for (const room of returning) {
        room.sessions.add(session);
        this.#leave(session, room);
      }
    });
  }

  /** A Watch has ended; its session stays for the next one. */
  #linger(session: FakeSession): void {
    const { heartbeatTimeoutMs = 60_000 } = this.#options;
    const isCurrent = this.#sessions.get(session.id) === session;
    if (!isCurrent) return this.#gone(session);
    setTimeout(() => this.#gone(session), heartbeatTimeoutMs);
  }

  #command(session: FakeSession | undefined, user: User, command: Command): Response | undefined {
    switch (command.command.case) {
      case "updateActivity":
        return this.#activity(session, command.command.value);
      case "updatePresence":
        return this.#updatePresence(session, command.command.value.state);
      default: {
        const key = `${user.id} ${command.requestId}`;
        const answer = this.#answers.get(key) ?? this.#carryOut(user, command);
        if (command.requestId !== "") this.#answers.set(key, answer);
        return answer;
      }
    }
  }

  #activity(
    session: FakeSession | undefined,
    { room: name, field, state }: UpdateActivityRequest,
  ): undefined {
    if (session === undefined) return;
    const user = { id: session.user.id, name: session.user.name };
    const value = { user, sessionId: session.id, field, state, expiresIn: durationFromMs(6_000) };
    this.room(name).publish({ case: "activity", value }, { epoch: this.#epoch, actor: session.user });
  }

  #updatePresence(session: FakeSession | undefined, state: PresenceState): undefined {
    if (session === undefined) return;
    session.state = state === PresenceState.IDLE ? state : PresenceState.ONLINE;
    for (const room of this.#rooms.values()) {
      if (!room.sessions.has(session)) continue;
      this.#presence(room, session.user, CollaborationType.UNSPECIFIED);
    }
  }

  #carryOut(user: User, command: Command): Response {
    try {
      const result = this.world.carryOut(user, command);
      return { frame: { case: "ack", value: { requestId: command.requestId, result: { result } } } };
    } catch (thrown) {
      const error = ConnectError.from(thrown);
      const detail = error.findDetails(ErrorSchema)[0];
      return { frame: { case: "error", value: detail ?? { code: error.code, message: error.rawMessage } } };
    }
  }
}

/** websocketBlocked is what a client sees of a network that blocks websockets. */
export function websocketBlocked(): ConnectError {
  return new ConnectError("the websocket could not be opened (code 1006)", Code.Unavailable);
}

/** switchedOff is a server's refusal; reason is REALTIME_OFF or TRANSPORT_OFF. */
export function switchedOff(reason: "REALTIME_OFF" | "TRANSPORT_OFF"): ConnectError {
  const message = "switched off on this server";
  const value = { code: Code.FailedPrecondition, reason, message };
  return new ConnectError(message, Code.FailedPrecondition, undefined, [{ desc: ErrorSchema, value }]);
}

function pong(): NonNullable<Response["frame"]> {
  return { case: "pong", value: { serverTime: timestampFromMs(Date.now()) } };
}

function realtimeOff(): ConnectError {
  return switchedOff("REALTIME_OFF");
}

async function all<T>(source: AsyncIterable<T>): Promise<T[]> {
  const items: T[] = [];
  for await (const item of source) items.push(item);
  return items;
}
