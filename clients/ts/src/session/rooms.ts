import type { Event } from "@tcmanager/gen/tcmanager/v1/event_pb";
import { Detail, type Joined } from "@tcmanager/gen/tcmanager/v1/realtime_pb";
import type { TcmError } from "../errors";
import type { RoomMessage } from "../session";
import { callSafely } from "./call-safely";
import { faultOf, Latest } from "./delivery";

/** A place in a room's log; see Position in event.proto. */
export interface Cursor {
  readonly epoch: bigint;
  readonly offset: bigint;
}

/** What a room makes of an event: it is new, or was seen before, or one before it is missing. */
type Acceptance = "fresh" | "seen" | "gap";

/** What came of a frame's events. */
export interface Delivered {
  /** Those that were new, in order. */
  readonly fresh: readonly Event[];
  /** The rooms in which some are missing, which no longer count as joined. */
  readonly gaps: readonly Room[];
  /** What was wrong with those that were ignored. */
  readonly faults: readonly string[];
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
  #latest = new Latest();
  /** Joins in a row that were put off. */
  putOff = 0;
  /** Gaps in a row without an event in between. */
  gaps = 0;
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

  /**
   * Moves the cursor to an event, if it is the next one. Events without a number
   * never move it.
   */
  accept(event: Event): Acceptance {
    if (!this.joined) return "seen";
    if (event.offset === 0n) return this.#latest.take(event) ? "fresh" : "seen";
    const reached = this.cursor?.offset ?? 0n;
    if (event.offset <= reached) return "seen";
    if (event.offset > reached + 1n) return "gap";
    this.cursor = { epoch: event.epoch, offset: event.offset };
    this.gaps = 0;
    return "fresh";
  }

  /** Whether a bookmark tells of events that never came. */
  misses(position: Cursor): boolean {
    return this.joined && position.offset > (this.cursor?.offset ?? 0n);
  }

  /** Takes the word of a bookmark for the place that was reached. */
  confirm({ epoch, offset }: Cursor): void {
    if (this.joined && offset === this.cursor?.offset) this.cursor = { epoch, offset };
  }

  /** Something is missing: the room is to be joined anew from its cursor. */
  gap(): void {
    this.joined = false;
    this.gaps++;
    // What is missing is missing there, too: only a snapshot helps.
    if (this.gaps > 1) this.cursor = undefined;
  }

  /** What is known is void, or begins. */
  begin(cursor: Cursor | undefined): void {
    this.cursor = cursor;
    this.#latest = new Latest();
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

  /**
   * Hands events to their rooms. One that its class forbids is ignored; from a
   * gap on, a room's events are not taken.
   */
  deliver(events: readonly Event[]): Delivered {
    const fresh: Event[] = [];
    const gaps: Room[] = [];
    const faults: string[] = [];
    const batches = new Map<Room, Event[]>();
    const lookup = new Map<string, readonly Room[]>();
    for (const event of events) {
      const fault = faultOf(event);
      if (fault !== undefined) {
        faults.push(fault);
        continue;
      }
      const rooms = remember(lookup, event.room, () => this.named(event.room));
      // Rooms that the server joined by itself (Detail.ALL) have no entry; who listens to all hears them.
      let isFresh = rooms.length === 0;
      for (const room of rooms) {
        const acceptance = room.accept(event);
        if (acceptance === "gap") {
          room.gap();
          gaps.push(room);
        }
        if (acceptance !== "fresh") continue;
        isFresh = true;
        remember(batches, room, () => []).push(event);
      }
      if (isFresh) fresh.push(event);
    }
    for (const [room, batch] of batches) room.tell({ kind: "events", events: batch });
    return { fresh, gaps, faults };
  }

  /** Takes a bookmark; returns the rooms that have not heard of that place, which no longer count as joined. */
  bookmark(canonical: string, position: Cursor): readonly Room[] {
    const rooms = this.named(canonical);
    const gaps = rooms.filter((room) => room.misses(position));
    for (const room of gaps) room.gap();
    for (const room of rooms) room.confirm(position);
    return gaps;
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
      room.begin({ epoch: position.epoch, offset: position.offset });
    }
    room.tell({ kind: "joined", joined });
  }

  /** A room can't go on: its cursor is worth nothing. */
  reset(canonical: string, reason: string): void {
    for (const room of this.named(canonical)) {
      room.begin(undefined);
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
