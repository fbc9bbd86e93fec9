/** A session on a fake server, and what it heard: for the tests beside this file. */
import { createClient } from "@connectrpc/connect";
import type { Event } from "@tcmanager/gen/tcmanager/v1/event_pb";
import { Status } from "@tcmanager/gen/tcmanager/v1/execution_pb";
import { RealtimeService, type SubscribeRequest } from "@tcmanager/gen/tcmanager/v1/realtime_pb";
import { expect } from "vitest";
import type { KeyValueStorage, RoomMessage } from "../session";
import { FakeServer, type FakeServerOptions, TestEnvironment } from "../testing";
import { SessionDriver, type SessionOptions } from "./driver";

/** What a room's listener heard. */
export class Heard {
  readonly messages: RoomMessage[] = [];
  readonly listener = (message: RoomMessage) => void this.messages.push(message);

  get events(): Event[] {
    return this.messages.flatMap((message) => (message.kind === "events" ? message.events : []));
  }

  /** The numbers of the durable events, in the order in which they came. */
  get offsets(): number[] {
    return this.events.filter(({ offset }) => offset > 0n).map(({ offset }) => Number(offset));
  }

  get kinds(): string[] {
    return this.messages.filter(({ kind }) => kind !== "events").map(({ kind }) => kind);
  }
}

/** A sessionStorage. */
export class MemoryStorage implements KeyValueStorage {
  readonly values: Map<string, string>;

  /** A duplicated tab begins with a copy. */
  constructor(copyOf?: MemoryStorage) {
    this.values = new Map(copyOf?.values);
  }

  getItem = (key: string) => this.values.get(key) ?? null;
  setItem = (key: string, value: string) => void this.values.set(key, value);
  removeItem = (key: string) => void this.values.delete(key);
}

const started: SessionDriver[] = [];

/** Ends what setup began. */
export function stopAll(): void {
  for (const session of started.splice(0)) session.stop();
}

export interface Setup extends Partial<Omit<SessionOptions, "environment" | "client">> {
  readonly server?: FakeServerOptions;
  readonly on?: FakeServer;
  readonly user?: { readonly id: string; readonly name: string };
}

/** A session that is not started yet. */
export function setup({ server: serverOptions, on, user, ...options }: Setup = {}) {
  const server = on ?? new FakeServer(serverOptions);
  const environment = new TestEnvironment();
  const session = new SessionDriver({
    client: createClient(RealtimeService, server.connect(user)),
    token: () => "T",
    environment,
    clientName: "test",
    storage: undefined,
    noDelay: false,
    transports: ["websocket", "watch"],
    timeoutMs: 20_000,
    attempts: 5,
    delayMs: 1_000,
    ...options,
  });
  started.push(session);
  const state = () => session.status().connection.kind;
  const live = () => expect.poll(state).toBe("live");
  return { server, environment, session, state, live };
}

/** A run with its room's name, and a function that reports the next result. */
export function makeRun(server: FakeServer) {
  const run = server.world.addRun({ project: "demo" });
  let tests = 0;
  const report = (count = 1) => {
    for (let i = 0; i < count; i++) {
      tests++;
      server.world.report(run.id, { test: { suite: "s", name: `T${tests}` }, status: Status.PASSED });
    }
  };
  return { id: run.id, room: `testrun:${run.id}`, report };
}

/** The frames of one kind that a server got. */
export function requests(server: FakeServer, kind: SubscribeRequest["frame"]["case"]) {
  return server.received.filter(({ frame }) => frame.case === kind);
}

/** The request ids of the commands that a server got, in order. */
export function requestIds(server: FakeServer): string[] {
  return requests(server, "command").flatMap(({ frame }) =>
    frame.case === "command" ? [frame.value.requestId] : [],
  );
}
