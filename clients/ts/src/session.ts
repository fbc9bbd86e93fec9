import type { MessageInitShape } from "@bufbuild/protobuf";
import type { Command, CommandResult, CommandSchema } from "@tcmanager/gen/tcmanager/v1/command_pb";
import type { Event } from "@tcmanager/gen/tcmanager/v1/event_pb";
import type { Detail, Joined, Welcome } from "@tcmanager/gen/tcmanager/v1/realtime_pb";
import type { TcmError } from "./errors";

/**
 * TokenSource gives the bearer token. refresh is true when the server refused
 * the last one or says it is about to expire: a cached token won't do then.
 * An empty token means an anonymous call.
 */
export type TokenSource = (request: { readonly refresh: boolean }) => string | Promise<string>;

/** KeyValueStorage is the part of sessionStorage that is used. */
export interface KeyValueStorage {
  getItem(key: string): string | null;
  setItem(key: string, value: string): void;
  removeItem(key: string): void;
}

/** What a room's listener hears, in order. */
export type RoomMessage =
  /** The room was joined. With recovered false it holds the state, and everything known before is void. */
  | { readonly kind: "joined"; readonly joined: Joined }
  /** New events, in order, none twice. */
  | { readonly kind: "events"; readonly events: readonly Event[] }
  /** The room can't be continued; a joined with a snapshot follows. */
  | { readonly kind: "reset"; readonly reason: string }
  /** The connection is away; what is known may be old. */
  | { readonly kind: "stale" }
  /** The room was refused or taken away, for good. */
  | { readonly kind: "failed"; readonly error: TcmError };

/** How to join a room. */
export interface JoinOptions {
  /** How much of a project; ignored for other rooms. The default is a summary. */
  readonly detail?: Detail;
  /** Hears the room from now on. */
  readonly listener: (message: RoomMessage) => void;
}

/** RoomHandle is one holder's share in a joined room. */
export interface RoomHandle {
  readonly room: string;
  /** Gives the share back; the room is left with its last one. */
  leave(): void;
}

/** The kinds of command that are answered; typing is not. */
export type AnsweredCommand = Exclude<NonNullable<Command["command"]["case"]>, "updateActivity">;

/** What a kind of command is answered with. */
export type CommandAnswer<K extends AnsweredCommand> = Extract<CommandResult["result"], { case: K }>["value"];

/** What a kind of command carries. */
export type CommandInput<K extends AnsweredCommand> = Extract<
  NonNullable<MessageInitShape<typeof CommandSchema>["command"]>,
  { case: K }
>["value"];

/** Session is one client's conversation with the server, over however many connections it takes. */
export interface Session {
  /** The last welcome; undefined before the first. */
  readonly welcome: Welcome | undefined;
  /**
   * Hears a room from now on, across reconnects, until leave. The first join
   * also starts the connection. Holders of one room share it: a second listener
   * hears only what comes after it, so a state is best kept in one store a room.
   */
  join(room: string, options: JoinOptions): RoomHandle;
  /**
   * Does something. The promise settles with the server's answer, however many
   * connections it takes; it rejects with a TcmError. A command is sent again
   * after a reconnect until it is answered, under one request id, so it happens
   * once. At most 256 commands wait; beyond that it rejects with OUTBOX_FULL.
   */
  command<K extends AnsweredCommand>(kind: K, value: CommandInput<K>): Promise<CommandAnswer<K>>;
  /** Calls listener with every event of every room. Returns the function that ends it. */
  onEvent(listener: (event: Event) => void): () => void;
}
