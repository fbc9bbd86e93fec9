import type { Event } from "@tcmanager/gen/tcmanager/v1/event_pb";
import { Detail, type Joined } from "@tcmanager/gen/tcmanager/v1/realtime_pb";
import type { TcmError } from "../errors";
import type { RoomMessage } from "../session";
import { callSafely } from "./call-safely";

/** A place in a room's log; see Position in event.proto. */
export interface Cursor {
  readonly epoch: bigint;
  readonly offset: bigint;
}

/** Room is one room that somebody wants to hear, over all connections. */
export class Room {
  readonly listeners = new Set<(message: RoomMessage) => void>();
  /** The name the server uses for it: a project may be asked for by its key. */
  canonical: string;
  /** Where to go on; undefined when only a snapshot can begin it. */
  cursor: Cursor | undefined;
  /** Whether the current stream has joined it. Without that nothing is taken for it. */
  joined = false;
  /** Until events up to here have arrived, the room is catching up. */
  target = 0n;
  /** Joins in a row that were put off. */
  putOff = 0;
  /** Prevents the join that was put off. */
  cancelRetry: () => void = () => {};

  constructor(
    readonly name: string,
    readonly detail: Detail,
    readonly storesCursor: boolean,
  ) {
    this.canonical = name;
  }

  /** Whether nothing that was missed is still on its way. A join that was put off keeps nobody waiting. */
  get current(): boolean {
    if (!this.joined) return this.putOff > 0;
    return (this.cursor?.offset ?? 0n) >= this.target;
  }

  /** Tells all who listen. */
  tell(message: RoomMessage): void {
    for (const listener of [...this.listeners]) callSafely(() => listener(message));
  }

  /** Moves the cursor to an event; false for one that was seen before. Events without a number never move it. */
  accept(event: Event): boolean {
    if (!this.joined) return false;
    if (event.offset === 0n) return true;
    if (this.cursor !== undefined && event.offset <= this.cursor.offset) return false;
    this.cursor = { epoch: event.epoch, offset: event.offset };
    return true;
  }

  /** Moves the cursor to a bookmark; never back. */
  bookmark(position: Cursor): void {
    if (!this.joined) return;
    if (this.cursor === undefined || position.offset >= this.cursor.offset) this.cursor = position;
  }
}

/**
 * Rooms keeps the rooms that are wanted with the place reached in each, and
 * hands what arrives to those who listen: in order, and nothing twice.
 */
export class Rooms {
  readonly #byName = new Map<string, Room>();

  /** All rooms wanted. */
  all(): readonly Room[] {
    return [...this.#byName.values()];
  }

  /** The room asked for under name. */
  get(name: string): Room | undefined {
    return this.#byName.get(name);
  }

  /** Wants a room. */
  add(name: string, detail: Detail | undefined, storesCursor: boolean): Room {
    const room = new Room(name, detail ?? Detail.SUMMARY, storesCursor);
    this.#byName.set(name, room);
    return room;
  }

  /** No longer wants a room. */
  remove(room: Room): void {
    room.cancelRetry();
    if (this.#byName.get(room.name) === room) this.#byName.delete(room.name);
  }

  /** The rooms the server calls canonical: more than one if a project was asked for by id and by key. */
  named(canonical: string): readonly Room[] {
    const found: Room[] = [];
    for (const room of this.#byName.values()) if (room.canonical === canonical) found.push(room);
    return found;
  }

  /** Whether every room has all that was missed. */
  get current(): boolean {
    for (const room of this.#byName.values()) if (!room.current) return false;
    return true;
  }

  /** Hands events to their rooms and returns those that were new, in order. */
  deliver(events: readonly Event[]): Event[] {
    const fresh: Event[] = [];
    const batches = new Map<Room, Event[]>();
    const lookup = new Map<string, readonly Room[]>();
    for (const event of events) {
      const rooms = remember(lookup, event.room, () => this.named(event.room));
      // Rooms that the server joined by itself (Detail.ALL) have no entry; who listens to all hears them.
      let isFresh = rooms.length === 0;
      for (const room of rooms) {
        if (!room.accept(event)) continue;
        isFresh = true;
        remember(batches, room, () => []).push(event);
      }
      if (isFresh) fresh.push(event);
    }
    for (const [room, batch] of batches) room.tell({ kind: "events", events: batch });
    return fresh;
  }

  /** The server's answer to a join. */
  joined(room: Room, joined: Joined): void {
    room.canonical = joined.room;
    room.joined = true;
    room.putOff = 0;
    const position = joined.position ?? { epoch: 0n, offset: 0n };
    room.target = position.offset;
    // When recovered, position is only how far the events that follow will
    // reach: to take it as reached would lose them if the stream broke now.
    if (!joined.recovered || room.cursor === undefined) {
      room.cursor = { epoch: position.epoch, offset: position.offset };
    }
    room.tell({ kind: "joined", joined });
  }

  /** A room can't go on: its cursor is worth nothing. */
  reset(canonical: string, reason: string): void {
    for (const room of this.named(canonical)) {
      room.cursor = undefined;
      room.joined = false;
      room.tell({ kind: "reset", reason });
    }
  }

  /** A room was refused or taken away. */
  failed(room: Room, error: TcmError): void {
    this.remove(room);
    room.joined = false;
    room.tell({ kind: "failed", error });
  }

  /** The stream is gone. */
  lost(): void {
    for (const room of this.all()) {
      room.cancelRetry();
      if (!room.joined) continue;
      room.joined = false;
      room.tell({ kind: "stale" });
    }
  }
}

function remember<K, V>(map: Map<K, V>, key: K, make: () => V): V {
  const known = map.get(key);
  if (known !== undefined) return known;
  const made = make();
  map.set(key, made);
  return made;
}
