import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { durationFromMs, timestampFromMs } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError, createRouterTransport, type Transport } from "@connectrpc/connect";
import { CollaborationType, PresenceState } from "@tcmanager/gen/tcmanager/v1/collaboration_pb";
import type { Command } from "@tcmanager/gen/tcmanager/v1/command_pb";
import { ErrorSchema } from "@tcmanager/gen/tcmanager/v1/error_pb";
import type { Event, Position } from "@tcmanager/gen/tcmanager/v1/event_pb";
import { type User, UserSchema } from "@tcmanager/gen/tcmanager/v1/identity_pb";
import type {
  JoinRoom,
  SubscribeRequest,
  SubscribeResponseSchema,
} from "@tcmanager/gen/tcmanager/v1/realtime_pb";
import { FakeRoom, type Payload } from "./fake-room";
import { FakeSession } from "./fake-session";
import { FakeWorld } from "./fake-world";
import { routes } from "./routes";

/** How a fake server behaves. */
export interface FakeServerOptions {
  /** What the welcome asks for; 25 s by default. */
  readonly heartbeatIntervalMs?: number;
  /** What the welcome says; 60 s by default. */
  readonly heartbeatTimeoutMs?: number;
}

type Response = MessageInitShape<typeof SubscribeResponseSchema>;

/**
 * FakeServer is a server in memory, for tests of programs that use this client
 * and for developing pages without one. It keeps the session protocol: joins
 * with snapshot or position, events in order, commands once a request id. It
 * knows no rights: everybody may do everything.
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
  /** If set, new streams are accepted and then carry nothing, either way. */
  mute = false;
  /** Takes commands but does not answer them: for what an answer lost on the way does. */
  swallowAnswers = false;
  /** Every frame that arrived, oldest first, at most 10,000. */
  readonly received: SubscribeRequest[] = [];
  /** How many streams were opened so far. */
  opened = 0;
  readonly #options: FakeServerOptions;
  readonly #rooms = new Map<string, FakeRoom>();
  readonly #sessions = new Map<string, FakeSession>();
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
    return this.#sessions.size;
  }

  /** Sends an event to a room. A durable one, the default, is numbered and kept. */
  publish(
    room: string,
    payload: Payload,
    options: { durable?: boolean; actor?: User | undefined } = {},
  ): Event {
    const { durable = true, actor } = options;
    return this.room(room).publish(payload, { durable, actor, epoch: this.#epoch });
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

  /** Asks all clients to come back. */
  goAway(afterMs: number): void {
    this.broadcast({ frame: { case: "goingAway", value: { reconnectAfter: durationFromMs(afterMs) } } });
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
    if (this.refuse !== undefined) throw this.refuse;
    const session = new FakeSession("", user);
    session.silent = this.mute;
    this.opened++;
    signal.addEventListener("abort", () => session.end());
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

  async #read(session: FakeSession, requests: AsyncIterable<SubscribeRequest>): Promise<void> {
    for await (const request of requests) {
      if (session.silent) continue;
      this.received.push(request);
      if (this.received.length > 10_000) this.received.shift();
      this.#request(session, request);
    }
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
      case "command":
        return this.#command(session, frame.value, id);
      case "ping":
        return reply({ case: "pong", value: { serverTime: timestampFromMs(Date.now()) } });
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
      this.#gone(older);
    }
    this.#lastSession++;
    session.id = wanted === "" ? `s${this.#lastSession}` : wanted;
    this.#sessions.set(session.id, session);
    const { heartbeatIntervalMs = 25_000, heartbeatTimeoutMs = 60_000 } = this.#options;
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
      activity: [...room.activity.values()],
      ...(missed === undefined && { recent: room.recent(), ...(snapshot && { snapshot }) }),
    };
  }

  #enter(session: FakeSession, room: FakeRoom): void {
    const isNew = ![...room.sessions].some(({ user }) => user.id === session.user.id);
    room.sessions.add(session);
    if (isNew) this.#presence(room, session.user, CollaborationType.USER_JOINED, PresenceState.ONLINE);
  }

  #leave(session: FakeSession, room: FakeRoom): void {
    if (!room.sessions.delete(session)) return;
    room.activity.delete(session.id);
    const still = [...room.sessions].some(({ user }) => user.id === session.user.id);
    if (!still) this.#presence(room, session.user, CollaborationType.USER_LEFT, PresenceState.OFFLINE);
  }

  #presence(room: FakeRoom, user: User, type: CollaborationType, state: PresenceState): void {
    const data: Payload["value"] = {
      type,
      user: { id: user.id, name: user.name },
      data: { case: "presence", value: room.presenceOf(user, state) },
    };
    room.publish({ case: "presence", value: data }, { durable: false, epoch: this.#epoch, actor: user });
  }

  #gone(session: FakeSession): void {
    if (this.#sessions.get(session.id) === session) this.#sessions.delete(session.id);
    for (const room of this.#rooms.values()) this.#leave(session, room);
  }

  #command(session: FakeSession, command: Command, replyTo: bigint): void {
    if (command.command.case === "updateActivity") {
      const { room: name, field, state } = command.command.value;
      const room = this.room(name);
      const user = { id: session.user.id, name: session.user.name };
      const activity = { user, sessionId: session.id, field, state, expiresIn: durationFromMs(6_000) };
      room.publish(
        { case: "activity", value: activity },
        { durable: false, epoch: this.#epoch, actor: session.user },
      );
      return;
    }
    const key = `${session.user.id} ${command.requestId}`;
    const answer = this.#answers.get(key) ?? this.#carryOut(session.user, command);
    if (command.requestId !== "") this.#answers.set(key, answer);
    if (!this.swallowAnswers) session.send({ ...answer, replyTo });
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
