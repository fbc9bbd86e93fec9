import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { type Activity, type Presence, PresenceState } from "@tcmanager/gen/tcmanager/v1/collaboration_pb";
import { DeliveryClass } from "@tcmanager/gen/tcmanager/v1/delivery_pb";
import { type Event, EventSchema, type Position, PositionSchema } from "@tcmanager/gen/tcmanager/v1/event_pb";
import type { User } from "@tcmanager/gen/tcmanager/v1/identity_pb";
import { classes } from "../session/delivery";
import type { FakeSession } from "./fake-session";

/** What an event may say. */
export type Payload = NonNullable<MessageInitShape<typeof EventSchema>["payload"]>;

/** FakeRoom is a room's log, and who is in it. */
export class FakeRoom {
  readonly sessions = new Set<FakeSession>();
  readonly activity = new Map<string, Activity>();
  readonly #since = new Map<string, number>();
  /** The durable events that are still kept; the first follows #trimmed. */
  #log: Event[] = [];
  #trimmed = 0n;

  constructor(readonly name: string) {}

  /** The number of the newest durable event. */
  get offset(): bigint {
    return this.#trimmed + BigInt(this.#log.length);
  }

  /** The newest durable events, oldest first. */
  recent(): Event[] {
    return this.#log.slice(-20);
  }

  position(epoch: bigint): Position {
    return create(PositionSchema, { epoch: this.#log.at(-1)?.epoch ?? epoch, offset: this.offset });
  }

  /** Stores and sends an event, as its class wants it: a durable one is numbered and kept, the newest has a key. */
  publish(payload: Payload, options: { epoch: bigint; actor?: User | undefined }): Event {
    const deliveryClass = classes.get(payload.case ?? "") ?? DeliveryClass.DURABLE;
    const isDurable = deliveryClass === DeliveryClass.DURABLE;
    const event = create(EventSchema, {
      room: this.name,
      payload,
      time: timestampFromMs(Date.now()),
      ...(options.actor && { actor: { id: options.actor.id, name: options.actor.name } }),
      ...(isDurable && { offset: this.offset + 1n, epoch: options.epoch }),
    });
    if (deliveryClass === DeliveryClass.LATEST) event.key = keyOf(event);
    if (isDurable) this.#log.push(event);
    for (const session of this.sessions) session.send({ events: [event] });
    return event;
  }

  /** Numbers an event that is not kept: history that was trimmed long ago. */
  skip(): bigint {
    this.#log = [];
    this.#trimmed = this.offset + 1n;
    return this.#trimmed;
  }

  /** The events after position; undefined if it can't be continued. */
  since(position: Position): Event[] | undefined {
    const known = position.offset - this.#trimmed;
    if (known < 0n || position.offset > this.offset) return undefined;
    const last = known === 0n ? undefined : this.#log[Number(known) - 1];
    if (last !== undefined && last.epoch !== position.epoch) return undefined;
    return this.#log.slice(Number(known));
  }

  /** Forgets the history kept. */
  trim(): void {
    this.#trimmed = this.offset;
    this.#log = [];
  }

  /** Who is here, each once. */
  presence(): Presence[] {
    const users = new Map<string, User>();
    for (const { user } of this.sessions) users.set(user.id, user);
    return [...users.values()].map((user) => this.presenceOf(user));
  }

  /** How present a user is: online if any of the sessions is, offline without any. */
  presenceOf(user: User): Presence {
    const states = [...this.sessions].filter((each) => each.user.id === user.id).map((each) => each.state);
    const best = states.includes(PresenceState.ONLINE) ? PresenceState.ONLINE : states[0];
    const since = this.#since.get(user.id) ?? Date.now();
    this.#since.set(user.id, since);
    return {
      $typeName: "tcmanager.v1.Presence",
      user: { $typeName: "tcmanager.v1.UserRef", id: user.id, name: user.name },
      state: best ?? PresenceState.OFFLINE,
      sessions: states.length,
      since: timestampFromMs(since),
    };
  }
}

/** The key of an event of which only the newest matters. */
function keyOf({ payload }: Event): string {
  if (payload.case === "runProgress") return payload.value.runId;
  return payload.case === "presence" ? (payload.value.user?.id ?? "") : "";
}
