import type { MessageInitShape } from "@bufbuild/protobuf";
import type { ActivityState } from "@tcmanager/gen/tcmanager/v1/collaboration_pb";
import type { Command, CommandResult, CommandSchema } from "@tcmanager/gen/tcmanager/v1/command_pb";
import type { Event } from "@tcmanager/gen/tcmanager/v1/event_pb";
import type { Detail, Joined, Welcome } from "@tcmanager/gen/tcmanager/v1/realtime_pb";
import type { TcmError } from "./errors";

/**
 * TokenSource gives the bearer token. refresh is true when the server refused
 * the last one or says it is about to expire: a cached token won't do then.
 * An empty token means an anonymous call. What it throws counts as refused for
 * good, except a ConnectError with a code such as Unavailable, which is retried.
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
  /** How much of a project; ignored for other rooms. The default is a summary. The first holder decides. */
  readonly detail?: Detail;
  /**
   * Goes on after a reload from where the page before was, if there is a
   * storage: only the events missed arrive, and no snapshot. For listeners that
   * keep no state of their own. The first holder decides.
   */
  readonly resumeAfterReload?: boolean;
  /** Hears the room from now on. */
  readonly listener: (message: RoomMessage) => void;
}

/** RoomHandle is one holder's share in a joined room. */
export interface RoomHandle {
  readonly room: string;
  /** Gives the share back; the room is left with its last one. */
  leave(): void;
}

/** A command that is answered, as {case, value}; typing and presence are not. */
export type CommandInit = Exclude<
  NonNullable<MessageInitShape<typeof CommandSchema>["command"]>,
  { case: "updateActivity" | "updatePresence" } | { case?: undefined }
>;

/** The answer to a command. */
export type Answer = Exclude<CommandResult["result"], { case: undefined }>;
/** Answers by kind of command. */
export type Answers = { [A in Answer as A["case"]]: A["value"] };

/** What a kind of command is answered with. */
export type CommandAnswer<K extends CommandInit["case"]> = Answers[K];

/** A command that a page before this one gave, and that will not be carried out. */
export interface DroppedCommand {
  readonly command: Command;
  /** Why: what the server said, or a reason of REQUEST_TOO_OLD or OTHER_USER. */
  readonly error: TcmError;
}

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
   * after a reconnect, and with a storage after a reload, until it is answered,
   * under one request id, so it happens once. At most 256 commands wait; beyond
   * that it rejects with OUTBOX_FULL.
   */
  command<C extends CommandInit>(command: C): Promise<CommandAnswer<C["case"]>>;
  /** Tells a room what this session does in a field. Sent at once or never. */
  sendActivity(room: string, field: string, state: ActivityState): void;
  /**
   * Calls listener with each command that a page before this one left waiting and
   * that was not carried out. Returns the function that ends it.
   */
  onDropped(listener: (dropped: DroppedCommand) => void): () => void;
  /** Calls listener with every event of every room. Returns the function that ends it. */
  onEvent(listener: (event: Event) => void): () => void;
}
